"""P(true Dice >= t) from features: standardise, add squares, logistic regression."""

from collections.abc import Iterator

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.reliability.model_file import powers

#: Fewer images than this on a side of the threshold cannot be split into folds.
MIN_IMAGES = 10
#: Folds to test on, and those within the rest to choose degree and penalty by.
NUM_FOLDS, NUM_INNER_FOLDS = 5, 3
#: Standardised features are cut off here: squares of what lies far outside the data mean nothing.
CLIP = 4.0
#: What the choice is between. All of it is a few numbers, which a file can hold safely.
_GRID = {"powers__kw_args": [{"degree": 1}, {"degree": 2}], "logistic__C": [0.01, 0.1, 1.0]}


def check_sides(good: np.ndarray, image_ids: np.ndarray, threshold: float, what: str) -> None:
    """Raise `DataError` unless enough images are on either side of the threshold.

    Args:
      good: bool [N], whether the true Dice is at least the threshold.
      image_ids: str [N].
      threshold: of the true Dice.
      what: the sweeps, for the message.
    """
    for side, relation in ((good, "at least"), (~good, "below")):
        number = len(np.unique(image_ids[side]))
        if number < MIN_IMAGES:
            raise DataError(
                f"{what}: {number} images have a true Dice {relation} {threshold}, {MIN_IMAGES} "
                "are needed; choose another threshold, sweep more images, or degrade them "
                "(data.degrade)"
            )


def folds(
    good: np.ndarray, image_ids: np.ndarray, number: int = NUM_FOLDS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows (kept, held out) of each fold; no image is on both sides of one."""
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=0)
    return splitter.split(good, good, image_ids)


def fit(values: np.ndarray, good: np.ndarray, image_ids: np.ndarray) -> Pipeline:
    """The classifier whose log loss on images that it has not seen is smallest.

    Missing values become the median. Degree and penalty are chosen by cross-validation.

    Args:
      values: float64 [N, F], NaN where there is none.
      good: bool [N].
      image_ids: str [N]; an image is never split between fitting and testing.

    Returns:
      A fitted pipeline; `predict_proba(values)[:, 1]` is P(good).
    """
    pipeline = Pipeline(
        [
            # A feature that a fold has nowhere stays, as a constant, so that all are in place.
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
            ("clip", FunctionTransformer(np.clip, kw_args={"a_min": -CLIP, "a_max": CLIP})),
            ("powers", FunctionTransformer(powers, kw_args={"degree": 1})),
            ("logistic", LogisticRegression(max_iter=1000)),
        ]
    )
    # The proper score gives probabilities that mean what they say; AUROC would only rank.
    loss = make_scorer(
        log_loss, greater_is_better=False, response_method="predict_proba", labels=[False, True]
    )
    inner = list(folds(good, image_ids, NUM_INNER_FOLDS))
    search = GridSearchCV(pipeline, _GRID, scoring=loss, cv=inner)
    return search.fit(values, good).best_estimator_


def held_out_probability(values: np.ndarray, good: np.ndarray, image_ids: np.ndarray) -> np.ndarray:
    """P(good) float64 [N] of every row by a classifier that has not seen its image."""
    probability = np.full(len(values), np.nan)
    for kept, left in folds(good, image_ids):
        model = fit(values[kept], good[kept], image_ids[kept])
        probability[left] = model.predict_proba(values[left])[:, 1]
    return probability
