"""Maps of effects as numbers per block, and the models that they are of."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from jaxseg_xai.explainers.parts.table import ComponentTable
from jaxseg_xai.store import Row, Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockMap:
    """Effects of replacing the blocks of one image on one region.

    Attributes:
      image_id: name of the image.
      class_name: of the class that is explained; "" where nobody says.
      region: how the region is found.
      effects: float64 [*G], one of each block, in the method's unit.
      outside: bool [*G], the blocks that do not touch the region; only these were replaced.
      grid: S, size of the image as the model sees it.
      box: first row, first column and side of a region that is a square; None of others.
      base: outcome of the image itself, NaN where it is not known.
      region_sum: checksum of the region's pixels as the model sees them, to tell others from it.
      picture_sum: of the image's; None where it is not stored.
      row: in the store, where it comes from one.
    """

    image_id: str
    class_name: str
    region: str
    effects: np.ndarray
    outside: np.ndarray
    grid: tuple[int, ...]
    box: tuple[int, int, int] | None = None
    base: float = np.nan
    region_sum: int = 0
    picture_sum: int | None = None
    row: Row | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is of: maps of several models with one key can be compared."""
        return self.image_id, self.class_name, self.region

    @property
    def name(self) -> str:
        """What it is of, in words."""
        return " ".join(filter(None, (self.image_id, self.class_name)))

    @property
    def values(self) -> np.ndarray:
        """Effects of the blocks outside the region, [N]."""
        return self.effects[self.outside]

    def paint(self, values: np.ndarray, block_size: int, shape: Sequence[int]) -> np.ndarray:
        """Give every pixel what its block has: [*G] -> [*shape], of the image or the model."""
        for axis, (size, seen) in enumerate(zip(shape, self.grid, strict=True)):
            pixels = ((np.arange(size) + 0.5) * seen / size).astype(int)
            values = values.take(pixels // block_size, axis)
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelMaps:
    """What is known of one model.

    Attributes:
      name: of the model.
      maps: its maps, in order.
      block_size: side of a block in pixels.
      threshold: smaller effects are 0; None where the method has none.
      unit: of the effects.
      settings: what else was set when they were computed; models should have the same.
      parts: name of a class -> effects of the network's parts.
      not_ok: status -> number of maps that there are none of.
      store: where pictures are.
    """

    name: str
    maps: Sequence[BlockMap]
    block_size: int
    threshold: float | None
    unit: str
    settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    parts: Mapping[str, ComponentTable] = dataclasses.field(default_factory=dict)
    not_ok: Mapping[str, int] = dataclasses.field(default_factory=dict)
    store: Store | None = None


def block_values(
    attribution: np.ndarray, region: np.ndarray, block_size: int, grid: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The effect of each block, which blocks do not touch the region, and where that is.

    Args:
      attribution: [*S], every pixel with its block's effect, on the image's own grid.
      region: bool [*S].
      block_size: side of a block, in pixels of the model's grid.
      grid: S of the model's grid, another where the model saw the image resized: the middle of a
        block still has its effect.

    Returns:
      float64 [*G], bool [*G], and the region on the model's grid, bool [*S].
    """
    place, starts, own = [], [], region
    for axis, (size, seen) in enumerate(zip(attribution.shape, grid, strict=True)):
        starts.append(np.arange(0, seen, block_size))
        middles = (starts[-1] + np.minimum(starts[-1] + block_size, seen)) / 2
        place.append((middles * size / seen).astype(int))
        pixels = ((np.arange(seen) + 0.5) * size / seen).astype(int)
        own = own.take(pixels, axis)
    touched = own
    for axis, first in enumerate(starts):
        touched = np.logical_or.reduceat(touched, first, axis)
    return attribution[np.ix_(*place)].astype(np.float64), ~touched, own


def box_of(region: np.ndarray) -> tuple[int, int, int] | None:
    """First row, first column and side of a region bool [H, W] that is a square, or None."""
    if region.ndim != 2 or not region.any():
        return None
    (top, left), (bottom, right) = (f(np.argwhere(region), axis=0) for f in (np.min, np.max))
    side = int(bottom) + 1 - int(top)
    square = side == right + 1 - left and region.sum() == side**2
    return (int(top), int(left), side) if square else None


def checksum(pixels: np.ndarray | None) -> int | None:
    """Of an array with its shape; None of None."""
    if pixels is None:
        return None
    shape = zlib.crc32(repr(pixels.shape).encode())
    return zlib.crc32(np.ascontiguousarray(pixels).tobytes(), shape)
