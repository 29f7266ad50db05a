"""Images that are too large for the memory: a tile of the image around what is explained."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import Grid
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.incremental import make_plan
from jaxseg_xai.ops.sliding import SlidingWindow

#: Pixels of the largest images that go through a model whole, where a sweep does not say.
MAX_PIXELS = 2**22
#: Tiles have the largest size, or half, a quarter or an eighth of it: so many programs at most.
_HALVINGS = 3


@dataclasses.dataclass(frozen=True)
class Tiling:
    """The tiles that a model takes.

    Attributes:
      size: of the largest.
      margin: pixels before and after a pixel, along each axis, that can change its logits: those of
        a pixel so far from the border of its tile are the whole image's. None: they depend on more
        than a tile holds, and are another model's, in strictness.
      unit: a tile begins at a multiple of it along every axis, as the model's layers do.
    """

    size: tuple[int, ...]
    margin: tuple[int, ...] | None
    unit: int

    def around(self, target: SegmentTarget, grid: Grid, *, block_side: int = 1) -> "Tile":
        """The smallest tile on which a target has the whole image's explanation.

        Where `margin` is None, the largest tile, around the target.

        Args:
          target: leaves on the prepared grid.
          grid: of the image.
          block_side: of the blocks into which the method divides an image; the tile begins at one.

        Raises:
          ConfigError: there is none so large.
        """
        pixels = np.asarray(target.region)
        if pixels.sum() == math.prod(grid.resized):  # everything: what there is of the class
            pixels = pixels & target.reference
        spans = [_span(pixels, axis) for axis in range(pixels.ndim)]
        margin = self.margin or (0,) * len(spans)
        step = math.lcm(self.unit, block_side)
        for halvings in range(_HALVINGS if self.margin else 0, -1, -1):
            size = [down(side >> halvings, self.unit) for side in self.size]
            ends = zip(spans, margin, size, grid.prepared, strict=True)
            places = [_place(span, seen, side, n, step) for span, seen, side, n in ends]
            if None not in places:
                first, sides = zip(*places, strict=True)  # pyright: ignore[reportArgumentType]
                return Tile(grid, first, sides)
        least = " x ".join(
            str(b - a + 2 * seen) for (a, b), seen in zip(spans, margin, strict=True)
        )
        raise ConfigError(
            f"what is explained and the pixels that it sees, {least} of them, do not fit "
            f"into a tile of {' x '.join(map(str, self.size))}; choose a smaller region (roi.kind "
            'component, region="component"), or allow more in max_pixels'
        )

    def starts(self, size: int, axis: int) -> list[int]:
        """First pixels of the tiles that cover an axis, such that they overlap by the margins."""
        side = min(self.size[axis], size)
        seen = side // 4 if self.margin is None else self.margin[axis]
        step = max(self.unit, down(side - 2 * seen, self.unit))
        return [*range(0, size - side, step), size - side]


@dataclasses.dataclass(frozen=True)
class Tile:
    """A part of an image's prepared grid; it is used as the `Grid` of the whole is.

    Attributes:
      whole: grid of the image.
      start: first pixel on the prepared grid.
      prepared: size.
    """

    whole: Grid
    start: tuple[int, ...]
    prepared: tuple[int, ...]
    changes = True

    @property
    def sample(self) -> tuple[int, ...]:
        """Size of the image."""
        return self.whole.sample

    @property
    def resized(self) -> tuple[int, ...]:
        """Size of the part of the tile that is no padding."""
        ends = zip(self.whole.resized, self.start, self.prepared, strict=True)
        return tuple(max(0, min(n - first, side)) for n, first, side in ends)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the image."""
        return self.prepared == self.whole.prepared

    @property
    def place(self) -> tuple[slice, ...]:
        """Where it lies on the prepared grid."""
        return slices(self.start, np.add(self.start, self.prepared))

    def back(self, values: np.ndarray) -> np.ndarray:
        """A map [*S, ...] of the tile on the sample's grid, 0 outside of the tile."""
        values = np.asarray(values)
        whole = np.zeros((*self.whole.prepared, *values.shape[len(self.start) :]), values.dtype)
        whole[self.place] = values
        return self.whole.back(whole)


def make_tiling(segmenter: Segmenter, variables: Any, max_pixels: int) -> Tiling:
    """The tiles of at most so many pixels.

    Args:
      segmenter: the model; it takes images of any size.
      variables: of the model.
      max_pixels: of a tile.

    Raises:
      ConfigError: too few for the model's stride.
    """
    size = largest_tile(segmenter.input, max_pixels)
    return Tiling(size, _margin(segmenter, variables, size), segmenter.input.multiple_of)


def is_too_large(segmenter: Segmenter, size: tuple[int, ...], max_pixels: int | None) -> bool:
    """Whether images of a size, as the model takes them, go through it tile by tile.

    Args:
      segmenter: the model.
      size: S.
      max_pixels: of images that go through it whole; None: 2**22, and any number where the model
        cuts images up itself.
    """
    if segmenter.input.fixed_size is not None:
        return False
    if max_pixels is None and isinstance(segmenter.apply, SlidingWindow):
        return False
    return math.prod(size) > (max_pixels or MAX_PIXELS)


def largest_tile(spec: InputSpec, max_pixels: int) -> tuple[int, ...]:
    """Size of the largest cube of at most so many pixels that a model takes.

    Raises:
      ConfigError: too few for the model's stride.
    """
    unit = spec.multiple_of
    side = down(math.floor(max_pixels ** (1 / spec.rank) + 1e-6), unit)
    if not side:
        raise ConfigError(
            f"max_pixels is {max_pixels}, and the sides of the model's images are multiples of "
            f"{unit}; allow at least {unit**spec.rank}"
        )
    return (side,) * spec.rank


def _margin(segmenter: Segmenter, variables: Any, size: tuple[int, ...]) -> tuple[int, ...] | None:
    """`Tiling.margin`; None also where a quarter of the tile would not be left between margins."""
    with jax.enable_x64(False):
        plan = make_plan(
            segmenter,
            variables,
            (*size, segmenter.input.channels),
            block=(1,) * len(size),
            region=(1,) * len(size),
            num_patches=1,
        )
    found = []
    for reaches, side in zip(plan.reaches.values(), size, strict=True):
        pixel = np.arange(side)  # which pixels of the image reach it: reaches[:, pixel]
        first, last = reaches.argmax(0), side - 1 - reaches[::-1].argmax(0)
        found.append(int(max((pixel - first).max(), (last - pixel).max())))
    fits = all(8 * n <= 3 * side for n, side in zip(found, size, strict=True))
    return tuple(found) if fits else None


def _span(pixels: np.ndarray, axis: int) -> tuple[int, int]:
    """First and past the last index along an axis with a pixel."""
    others = tuple(i for i in range(pixels.ndim) if i != axis)
    where = np.flatnonzero(pixels.any(others))
    return int(where[0]), int(where[-1]) + 1


def _place(
    span: tuple[int, int], seen: int, side: int, size: int, step: int
) -> tuple[int, int] | None:
    """(first pixel, pixels) of a tile with a span in its middle; None where it does not fit.

    The first is a multiple of `step`; at the end of the axis the tile may be longer by less.
    """
    low, high, side = max(0, span[0] - seen), min(size, span[1] + seen), min(side, size)
    low = down(low, step)
    if high - low > side or not side:
        return None
    first = max(0, low - down((side - (high - low)) // 2, step))
    if first + side <= size:
        return first, side
    first = down(size - side, step)
    return first, size - first


def slices(begin: Any, end: Any) -> tuple[slice, ...]:
    """The place from `begin` to before `end`, numbers per axis."""
    return tuple(slice(int(a), int(b)) for a, b in zip(begin, end, strict=True))


def down(value: int, unit: int) -> int:
    """The next multiple of a unit that is not larger."""
    return value - value % unit
