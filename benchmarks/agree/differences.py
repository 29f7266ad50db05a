"""How far two results are apart, and how far rounding alone moves them.

A hard segmentation decides by probability > 0.5. Logits of two frameworks differ by rounding, so a
pixel whose probability is within a margin of 0.5 may fall on either side. What is excused are such
pixels, as far as they can move the outcome; nothing beyond that is.
"""

from collections.abc import Sequence

import numpy as np

#: How near to 0.5 a probability must come for its pixel to fall on either side. In float32 logits
#: of two frameworks differ by up to 2.3e-5, probabilities by a quarter of that.
FLIP_MARGINS: dict[str, float] = {"float32": 6e-6, "tensorfloat32": 1e-2, "bfloat16": 3e-2}
#: Changes of the images as large as the rounding of a network: each value's own, as a common one
#: leaves ties of ReLUs and maxima alone, and several, as one may miss what another upsets.
_ROUNDING, _SHAKES = 2.0**-20, 4
#: Of two runs of the same: what is less is rounding, not yet amplified.
_GROWTH = 1e-4
#: Values of masks that differ by more are counted.
MASK_TOLERANCE = 1e-2


def largest(differences: np.ndarray) -> float:
    """The largest; infinite if one is not a number, 0 if there are none."""
    return float(np.max(np.where(np.isnan(differences), np.inf, differences), initial=0.0))


def differences(found: np.ndarray, expected: np.ndarray, relative: bool = False) -> np.ndarray:
    """|found - expected|, of |expected| if relative; 0 where both are NaN."""
    off = np.abs(found.astype(np.float64) - expected)
    if relative:
        off = off / np.abs(expected)
    return np.where(np.isnan(found) & np.isnan(expected), 0.0, off)


def distance_to_half(logits: np.ndarray, class_index: int) -> np.ndarray:
    """How far the probability of a class against its strongest rival is from 0.5, float64 [...].

    In [0, 0.5]; logits are [..., K], K >= 2.
    """
    logits = np.asarray(logits, np.float64)
    lead = logits[..., class_index] - np.delete(logits, class_index, axis=-1).max(axis=-1)
    return np.abs(np.tanh(lead / 2)) / 2


def relative_l2(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|found - expected| / |expected| of images, float64 [N]; infinite for what is no number."""
    pixels = tuple(range(1, expected.ndim))
    difference, size = (
        np.sqrt(np.sum(np.square(x), axis=pixels, dtype=float))
        for x in (found - expected.astype(float), expected)
    )
    return np.where(np.isnan(difference), np.inf, difference / np.where(size > 0, size, 1.0))


def masks_off(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of the pixels at which masks [N, *S] differ by more than 0.01, float64 [N]."""
    off = ~(np.abs(one.astype(np.float64) - other) <= MASK_TOLERANCE)
    return np.mean(off, axis=tuple(range(1, off.ndim)))


def shaken(images: np.ndarray) -> list[np.ndarray]:
    """Images [N, *S, C] with rounding errors."""
    draws = np.random.default_rng(0).uniform(-1, 1, (_SHAKES, *images.shape[1:]))
    return [(images * (1 + _ROUNDING * draw)).astype(images.dtype) for draw in draws]


def steady(trace: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Leading iterations at which traces [N, iterations] differ by rounding only; int32 [N]."""
    off = np.any([~(differences(trace, other, True) <= _GROWTH) for other in others], axis=0)
    return np.where(off.any(1), off.argmax(1), trace.shape[1]).astype(np.int32)
