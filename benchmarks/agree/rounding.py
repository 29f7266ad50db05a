"""What rounding alone does to a result: no other implementation can be held to less."""

from collections.abc import Sequence

import numpy as np

from benchmarks.agree.verdict import differences

#: Changes of the images as large as the rounding of a network: each value's own, as a common one
#: leaves ties of ReLUs and maxima alone, and several, as one may miss what another upsets.
_ROUNDING, _SHAKES = 2.0**-20, 4
#: Of two runs of the same: what is less is rounding, not yet amplified.
_GROWTH = 1e-4
#: Values of masks that differ by more are counted.
MASK_TOLERANCE = 1e-2


def shaken(images: np.ndarray) -> list[np.ndarray]:
    """Images [N, H, W, C] with rounding errors."""
    draws = np.random.default_rng(0).uniform(-1, 1, (_SHAKES, *images.shape[1:]))
    return [(images * (1 + _ROUNDING * draw)).astype(images.dtype) for draw in draws]


def steady(trace: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Leading iterations at which traces [N, iterations] differ by rounding only; int32 [N]."""
    off = np.any([~(differences(trace, other, True) <= _GROWTH) for other in others], axis=0)
    return np.where(off.any(1), off.argmax(1), trace.shape[1]).astype(np.int32)


def masks_off(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of the pixels at which masks [N, H, W] differ by more than 0.01, float64 [N]."""
    return np.mean(~(np.abs(one.astype(np.float64) - other) <= MASK_TOLERANCE), axis=(1, 2))


def relative_l2(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|found - expected| / |expected| of images, float64 [N]; infinite for what is no number."""
    difference, size = (
        np.sqrt(np.sum(np.square(values, dtype=np.float64), axis=(1, 2)))
        for values in (found.astype(np.float64) - expected, expected)
    )
    relative = difference / np.where(size > 0, size, 1.0)
    return np.where(np.isnan(relative), np.inf, relative)
