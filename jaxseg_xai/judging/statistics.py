"""How sure a mean over images is, and whether two methods differ: pure functions of numbers."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from scipy import stats

#: Share of the resamples beyond either end of an interval of 95 %.
_TAIL = 0.025


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over images and its 95 % bootstrap interval.

    Attributes:
      mean: NaN where there is no image.
      low: end of the interval; NaN of a single image.
      high: its other end.
      num_images: with a value.
    """

    mean: float
    low: float
    high: float
    num_images: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How two methods differ on the images for which both have a value.

    Attributes:
      mean: of the differences a - b, with its interval.
      p_value: of Wilcoxon's signed-rank test, two-sided; NaN of fewer than two images.
    """

    mean: Estimate
    p_value: float


def estimate(values: np.ndarray, *, num_resamples: int, seed: int) -> Estimate:
    """Mean and percentile interval (Efron and Tibshirani 1993, chapter 13).

    Args:
      values: float [images]; those that are NaN are left out.
      num_resamples: images are drawn with replacement so many times.
      seed: of the draws; equal numbers of images are drawn alike.
    """
    values = values[np.isfinite(values)]
    if not values.size:
        return Estimate(mean=np.nan, low=np.nan, high=np.nan, num_images=0)
    mean, low, high = float(values.mean()), np.nan, np.nan
    if values.size > 1:
        drawn = values[_draws(values.size, num_resamples, seed)].mean(axis=1)
        low, high = map(float, np.quantile(drawn, (_TAIL, 1 - _TAIL)))
    return Estimate(mean=mean, low=low, high=high, num_images=values.size)


def difference(a: np.ndarray, b: np.ndarray, *, num_resamples: int, seed: int) -> Difference:
    """Compare two methods, image by image.

    Args:
      a: float [images], NaN where there is none.
      b: of the same images.
      num_resamples: see `estimate`.
      seed: see `estimate`.
    """
    differences = a - b
    differences = differences[np.isfinite(differences)]
    if differences.size < 2:
        p_value = np.nan
    elif not differences.any():
        p_value = 1.0  # the test is not defined, and nothing differs
    else:
        p_value = float(stats.wilcoxon(differences)[1])  # pyright: ignore[reportArgumentType]
    mean = estimate(differences, num_resamples=num_resamples, seed=seed)
    return Difference(mean=mean, p_value=p_value)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p values corrected for so many comparisons (Holm 1979), float64 [N]; NaN stays NaN.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    found = np.full(values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    corrected = values[order] * (order.size - np.arange(order.size))
    found[order] = np.minimum(np.maximum.accumulate(corrected), 1)
    return found


@functools.lru_cache(maxsize=8)
def _draws(size: int, num_resamples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(size, size=(num_resamples, size))
