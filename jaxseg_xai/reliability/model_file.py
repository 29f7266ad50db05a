"""A fitted classifier as a JSON file: numbers and names, no code, of no scikit-learn version."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError, ModelError
from jaxseg_xai.core.parse import from_table, json_of
from jaxseg_xai.ops.random import image_id
from jaxseg_xai.reliability.table import FeatureTable, Origin

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FORMAT, VERSION = "jaxseg-xai reliability", 3


def powers(z: np.ndarray, degree: int) -> np.ndarray:
    """Features [N, F] and their powers up to `degree`, side by side, [N, degree * F]."""
    return np.hstack([z**power for power in range(1, degree + 1)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReliabilityClassifier:
    """P(true Dice >= threshold) = expit(b + sum_f (a_1f z_f + a_2f z_f^2)), or without squares.

    z is a feature (its median where it is missing), standardised and cut off at +-clip.

    Attributes:
      threshold: of the true Dice.
      features: their names, length F.
      medians: length F.
      means: length F.
      scales: length F, positive.
      clip: positive.
      degree: 1, or 2 with squares.
      coefficients: those of z, then those of its squares, length degree * F.
      intercept: b.
      origin: model and settings that the features must come from.
      num_explanations: that it was fitted on.
      seen: numbers of their images' ids, ascending: how well it does on these proves nothing.
      share_good: of them with a true Dice of at least the threshold.
      format: what the file is.
      version: of the format.
    """

    threshold: float
    features: tuple[str, ...]
    medians: tuple[float, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    clip: float
    degree: int
    coefficients: tuple[float, ...]
    intercept: float
    origin: Origin
    num_explanations: int
    seen: tuple[int, ...]
    share_good: float
    format: str = FORMAT
    version: int = VERSION

    @classmethod
    def of(
        cls, pipeline: "Pipeline", table: FeatureTable, threshold: float
    ) -> "ReliabilityClassifier":
        """Of a pipeline from `classifier.fit`, fitted to the features of `table`."""
        steps: Any = pipeline.named_steps
        return cls(
            threshold=threshold,
            features=table.names,
            medians=tuple(steps["impute"].statistics_.tolist()),
            means=tuple(steps["scale"].mean_.tolist()),
            scales=tuple(steps["scale"].scale_.tolist()),
            clip=steps["clip"].kw_args["a_max"],
            degree=steps["powers"].kw_args["degree"],
            coefficients=tuple(steps["logistic"].coef_[0].tolist()),
            intercept=float(steps["logistic"].intercept_[0]),
            origin=table.origin,
            num_explanations=len(table),
            seen=tuple(sorted({_number_of(name) for name in table.image_ids})),
            share_good=float(np.mean(table.true_dice >= threshold)),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that the features come from."""
        return tuple(self.origin.settings)

    def probability(self, table: FeatureTable) -> np.ndarray:
        """P(true Dice >= threshold) of every explanation, float64 [N] in [0, 1].

        Raises:
          DataError: the sweep lacks a feature, or was made by another model or other settings.
        """
        missing = [name for name in self.features if name not in table.names]
        different = self.origin.differences(table.origin)
        if different or missing:
            why = f"no feature {missing[0]}" if missing and not different else different[0]
            raise DataError(
                f"the classifier was fitted to other explanations than those of the sweep ({why}); "
                "sweep with the model and the settings it was fitted for, or fit another"
            )
        values = table.columns(self.features)
        z = (np.where(np.isnan(values), self.medians, values) - self.means) / self.scales
        z = np.clip(z, -self.clip, self.clip)
        return expit(self.intercept + powers(z, self.degree) @ np.array(self.coefficients))

    def has_seen(self, table: FeatureTable) -> np.ndarray:
        """Whether it was fitted on an explanation's image, bool [N]."""
        seen = set(self.seen)
        return np.array([_number_of(name) in seen for name in table.image_ids], bool)

    def save(self, path: Path) -> None:
        """Write the file; its folder is made if it is missing."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")
        except OSError as error:
            raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error

    @classmethod
    def load(cls, path: Path) -> "ReliabilityClassifier":
        """Read a file; `ModelError` where it is none, damaged, or of another version."""
        try:
            table = json_of(path)
            if not isinstance(table, dict) or table.get("format") != FORMAT:
                raise ModelError(f"{path}: not a classifier of `jaxseg-xai reliability fit`")
            if table.get("version") != VERSION:
                raise ModelError(
                    f"{path}: a classifier of version {table.get('version')}, this is version "
                    f"{VERSION}; fit it again with `jaxseg-xai reliability fit`"
                )
            found = from_table(cls, table)
            found._check()
        except OSError as error:
            raise ModelError(f"{path}: {error.strerror}; name a file of reliability fit") from error
        except (ValueError, ConfigError) as error:
            raise ModelError(
                f"{path}: a damaged classifier ({error}); fit it again with `jaxseg-xai "
                "reliability fit`"
            ) from error
        return found

    def _check(self) -> None:
        """ValueError unless the numbers fit together."""
        count = len(self.features)
        for name in ("medians", "means", "scales"):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{len(getattr(self, name))} {name} of {count} features")
        if self.degree < 1 or len(self.coefficients) != self.degree * count:
            raise ValueError("degree and coefficients do not fit the features")
        numbers = (*self.medians, *self.means, *self.scales, *self.coefficients, self.intercept)
        if not np.isfinite([*numbers, self.clip]).all() or min(*self.scales, self.clip) <= 0:
            raise ValueError("numbers that are not finite, or scales that are not positive")


def _number_of(name: str) -> int:
    """The 64-bit number of an image's id."""
    high, low = map(int, image_id(name))
    return (high << 32) | low
