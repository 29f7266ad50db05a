"""How far two maps of effects agree: two models on one image, or two methods on one model."""

import dataclasses

import numpy as np
from scipy import stats

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.explainers.ate.results import EDGES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares of all effects, adding up to 1: PdCR's statistics of a map.

    Attributes:
      positive: effect >= threshold (and not 0): replacing raises Dice.
      negative: effect <= -threshold (and not 0): replacing lowers Dice.
      zero: the others.
    """

    positive: float
    negative: float
    zero: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """What `compare_maps` finds.

    Attributes:
      shares_a: of the first map.
      shares_b: of the second.
      same_sign: share of effects that are positive, negative or zero in both.
      same_sign_nonzero: the same among those that are not zero in at least one map, where two maps
        full of zeros do not agree by that alone; NaN where there are none.
      pearson: linear correlation in [-1, 1]; NaN where a map is constant.
      spearman: rank correlation in [-1, 1], equal effects sharing their mean rank; NaN where a map
        is constant.
      num_effects: blocks (or components) compared.
    """

    shares_a: Shares
    shares_b: Shares
    same_sign: float
    same_sign_nonzero: float
    pearson: float
    spearman: float
    num_effects: int


def compare_maps(
    map_a: np.ndarray,
    map_b: np.ndarray,
    *,
    threshold: float = 0.02,
    where: np.ndarray | None = None,
) -> Agreement:
    """Compare two maps of effects, as PdCR compares models (arXiv 2602.20511).

    Give one value per block or component, not per pixel: shares and correlations would count large
    blocks more often than those cut off at the border.

    Args:
      map_a: effects of any shape, in points.
      map_b: of the same shape, about the same blocks.
      threshold: |effect| < threshold counts as zero, in points, >= 0.
      where: bool of that shape: what to compare (the blocks outside the region); default: all.

    Raises:
      DataError: other shapes, fewer than two effects, effects that are not finite, or a negative
        threshold.
    """
    a, b = np.asarray(map_a, np.float64), np.asarray(map_b, np.float64)
    chosen = np.ones(a.shape, bool) if where is None else np.asarray(where, bool)
    if a.shape != b.shape or a.shape != chosen.shape:
        raise DataError(
            f"maps of {a.shape} and {b.shape} in {chosen.shape}: compare maps of one grid"
        )
    if not threshold >= 0:
        raise DataError(f"threshold is {threshold}; it must not be negative")
    a, b = a[chosen], b[chosen]
    if a.size < 2:
        raise DataError(f"{a.size} effects to compare; there must be two at least")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("effects are not all finite; leave them out with `where`")
    sign_a, sign_b = _signs(a, threshold), _signs(b, threshold)
    same, either = sign_a == sign_b, (sign_a != 0) | (sign_b != 0)
    varied = np.ptp(a) > 0 and np.ptp(b) > 0
    return Agreement(
        shares_a=_shares(sign_a),
        shares_b=_shares(sign_b),
        same_sign=float(same.mean()),
        same_sign_nonzero=float(same[either].mean()) if either.any() else np.nan,
        pearson=_correlation(a, b) if varied else np.nan,
        spearman=_correlation(stats.rankdata(a), stats.rankdata(b)) if varied else np.nan,
        num_effects=int(a.size),
    )


def shares(effects: np.ndarray, *, threshold: float = 0.02) -> Shares:
    """Shares of positive, negative and zero effects, any shape, in points."""
    return _shares(_signs(np.asarray(effects, np.float64).ravel(), threshold))


def histogram(effects: np.ndarray, *, threshold: float = 0.02) -> np.ndarray:
    """Effects of any shape per bin of (-inf, -3, -1, -0.3, -t, t, 0.3, 1, 3, inf), int [9].

    Bins are PdCR's, in points; t is the threshold. A bin has its lower end, the middle one 0.
    """
    values = np.asarray(effects, np.float32).ravel()
    edges = np.sort(np.array([*EDGES, -threshold, threshold], np.float32))
    bins = np.where(values == 0, len(edges) // 2, np.searchsorted(edges, values, side="right"))
    return np.bincount(bins, minlength=len(edges) + 1)


def _signs(effects: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(np.abs(effects) < threshold, 0, np.sign(effects))


def _shares(signs: np.ndarray) -> Shares:
    positive, negative = float((signs > 0).mean()), float((signs < 0).mean())
    return Shares(positive=positive, negative=negative, zero=float((signs == 0).mean()))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])
