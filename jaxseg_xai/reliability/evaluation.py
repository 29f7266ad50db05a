"""How well scores tell good segmentations from bad: AUROC and Brier score on unseen images."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats
from sklearn.metrics import brier_score_loss

from jaxseg_xai.reliability.classifier import fit, held_out_probability
from jaxseg_xai.reliability.table import FeatureTable

NUM_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95 % confidence interval by bootstrap over images."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """How well one score, or one classifier, does.

    Attributes:
      name: of the score or of the classifier's features.
      score: float64 [N], the larger, the more likely the segment is good; of a classifier,
        P(good).
      fitted: whether it is a classifier.
      auroc: area under the ROC curve.
      brier: mean squared error of P(good); NaN for what is no probability.
      gain: its AUROC less that of the first result, on the same resampled images.
    """

    name: str
    score: np.ndarray
    fitted: bool
    auroc: Interval
    brier: float
    gain: Interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All results on the same explanations; the first is that of the first label's features.

    Attributes:
      good: bool [N], whether the true Dice is at least the threshold.
      num_images: that the N explanations are of.
      results: one per score or classifier.
    """

    good: np.ndarray
    num_images: int
    results: tuple[Result, ...]


def feature_sets(names: Sequence[str], singles: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """What is compared -> its features.

    Args:
      names: of all features, "label.score".
      singles: those that are compared one by one too.

    Returns:
      All features of each label, those of several labels together, and single scores.
    """
    by_label: dict[str, list[str]] = {}
    for name in names:
        by_label.setdefault(name.partition(".")[0], []).append(name)
    sets = {f"{label} (all)": tuple(found) for label, found in by_label.items()}
    for number in range(2, len(by_label) + 1):
        for together in itertools.combinations(by_label, number):
            found = itertools.chain.from_iterable(by_label[label] for label in together)
            sets[" + ".join(together)] = tuple(found)
    return sets | {name: (name,) for name in singles if name in names}


def compare(
    table: FeatureTable,
    threshold: float,
    *,
    held_out: FeatureTable | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> Evaluation:
    """Compare the classifiers of all feature sets, and each confidence score by itself.

    Args:
      table: labelled explanations; enough on either side, see `classifier.check_sides`.
      threshold: of the true Dice.
      held_out: labelled explanations of other images to test on; where None, every image of `table`
        is tested by a classifier fitted to others (cross-validation).
      num_resamples: of the bootstrap.

    Returns:
      The results on `held_out` (or `table`).
    """
    tested = table if held_out is None else held_out
    good = tested.true_dice >= threshold
    resampled = resamples(good, tested.image_ids, num_resamples)
    scored: list[tuple[str, bool, np.ndarray]] = []
    for name, features in feature_sets(table.names, table.sureness).items():
        values, known = table.columns(features), table.true_dice >= threshold
        if held_out is None:
            probability = held_out_probability(values, known, table.image_ids)
        else:
            model = fit(values, known, table.image_ids)
            probability = model.predict_proba(held_out.columns(features))[:, 1]
        scored.append((name, True, probability))
        if len(features) == 1:
            alone = tested.columns(features)[:, 0]
            # What has no score (a segment without an outline) is taken as neither sure nor unsure.
            alone = np.where(np.isnan(alone), np.nanmedian(values), alone)
            if name in table.sureness:
                scored.append((name, False, table.sureness[name] * alone))
    reference = None
    results = []
    for name, fitted, score in scored:
        value, drawn = auroc(good, score, resampled)
        reference = (value, drawn) if reference is None else reference
        results.append(
            Result(
                name=name,
                score=score,
                fitted=fitted,
                auroc=_interval(value, drawn),
                brier=float(brier_score_loss(good, score)) if fitted else float("nan"),
                gain=_interval(value - reference[0], drawn - reference[1]),
            )
        )
    return Evaluation(
        good=good, num_images=len(np.unique(tested.image_ids)), results=tuple(results)
    )


def resamples(good: np.ndarray, image_ids: np.ndarray, number: int) -> list[np.ndarray]:
    """Bootstrap over images: rows of as many images drawn with replacement, both sides present.

    Args:
      good: bool [N], with both values.
      image_ids: str [N].
      number: of resamples.

    Returns:
      `number` arrays of row indices.
    """
    rng = np.random.default_rng(0)
    _, image_of = np.unique(image_ids, return_inverse=True)
    rows_of = [np.flatnonzero(image_of == image) for image in range(image_of.max() + 1)]
    found: list[np.ndarray] = []
    while len(found) < number:
        rows = np.concatenate([rows_of[i] for i in rng.integers(len(rows_of), size=len(rows_of))])
        if 0 < good[rows].sum() < len(rows):
            found.append(rows)
    return found


def auroc(
    good: np.ndarray, score: np.ndarray, resampled: Sequence[np.ndarray]
) -> tuple[float, np.ndarray]:
    """Area under the ROC curve of `score` for `good`, and that of every resample [B]."""
    return _area(good, score), np.array([_area(good[r], score[r]) for r in resampled])


def auroc_interval(good: np.ndarray, score: np.ndarray, image_ids: np.ndarray) -> Interval:
    """Area under the ROC curve with its interval; `good` [N] has both values."""
    return _interval(*auroc(good, score, resamples(good, image_ids, NUM_RESAMPLES)))


def _area(good: np.ndarray, score: np.ndarray) -> float:
    """By ranks (Mann and Whitney): scikit-learn's takes 30 times as long, a minute in all."""
    number = good.sum()
    wins = stats.rankdata(score)[good].sum() - number * (number + 1) / 2
    return float(wins / (number * (len(good) - number)))


def _interval(value: float, drawn: np.ndarray) -> Interval:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(value=value, low=float(low), high=float(high))
