"""Maps as bytes for a page: a code of eight bits a pixel, and the values of the codes."""

import base64
import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

#: Code of a pixel without a finite value; the others are places in the levels.
NOTHING = 255
_MOST = NOTHING


@dataclasses.dataclass(frozen=True)
class Coded:
    """A map of numbers in eight bits a pixel.

    Attributes:
      codes: uint8 [*S], places in `levels`; 255 where there is no finite value.
      levels: float32 [N], ascending, N <= 255.
      error: no value is farther from its level; 0 where the map has at most 255 different values.
    """

    codes: np.ndarray
    levels: np.ndarray
    error: float

    def as_json(self) -> dict[str, object]:
        """For the page: arrays deflated, in base64.

        The codes are written as what each adds to the one above it, and that to what the one before
        adds (mod 256): of smooth maps little is left to store.
        """
        levels = base64.b64encode(self.levels.astype("<f4").tobytes()).decode("ascii")
        down = np.diff(self.codes, axis=-2, prepend=np.uint8(0))
        steps = np.diff(down, axis=-1, prepend=np.uint8(0))
        return {"codes": packed(steps), "levels": levels, "error": self.error}


def encode(values: np.ndarray) -> Coded:
    """Code a map; its levels are the map's own values, where there are few of them.

    Else they lie evenly in sign(v) sqrt(|v|): finer near zero, where most values are. The error is
    then at most 0.8 % of the largest size, and 0.4 % in a map of one sign.

    Args:
      values: float [*S]; NaN and infinity have no level.
    """
    values = np.asarray(values, np.float32)
    finite = np.isfinite(values)
    levels = np.unique(values[finite])
    if levels.size > _MOST:
        low, high = (np.sign(v) * np.sqrt(np.abs(v)) for v in (levels[0], levels[-1]))
        roots = np.linspace(low, high, _MOST - 1)
        # Zero has a level of its own: it is what most maps say of most pixels.
        levels = np.unique(np.append(roots * np.abs(roots), 0).astype(np.float32))
    if not levels.size:
        return Coded(np.full(values.shape, NOTHING, np.uint8), levels, 0.0)
    filled = np.where(finite, values, levels[0])
    codes = np.searchsorted((levels[1:] + levels[:-1]) / 2, filled)
    error = float(np.max(np.abs(levels[codes] - filled)))
    return Coded(np.where(finite, codes, NOTHING).astype(np.uint8), levels, error)


def packed(values: np.ndarray) -> str:
    """An array uint8 or bool as deflated bytes, in base64."""
    return base64.b64encode(zlib.compress(values.astype(np.uint8).tobytes(), 6)).decode("ascii")


def shrink(values: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Means over `factors` pixels along each axis [*S, ...], majorities of a mask."""
    if all(factor == 1 for factor in factors):
        return values
    rank = len(factors)
    sizes = [max(n // factor, 1) for n, factor in zip(values.shape, factors, strict=False)]
    # Fewer in a narrow strip.
    steps = [min(n, factor) for n, factor in zip(values.shape, factors, strict=False)]
    cut = values[tuple(slice(n * step) for n, step in zip(sizes, steps, strict=True))]
    paired = [n for pair in zip(sizes, steps, strict=True) for n in pair]
    split = cut.reshape(*paired, *values.shape[rank:])
    means = split.mean(axis=tuple(range(1, 2 * rank, 2)), dtype=np.float32)
    if values.dtype == bool:
        return means >= 0.5
    return means.round().astype(np.uint8) if values.dtype == np.uint8 else means
