"""Plain arrays between ours, the PyTorch peers and the frozen references: what goes in and out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxseg_xai.core.types import Array, SegmentTarget
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.ops.random import image_id
from jaxseg_xai.ops.replacements import Draws

#: What a method found for N images, by name; every array is [N, ...].
#:
#: All: `segment` bool [N, H, W], the pixels of the class that are explained.
#: Maps: `attribution` float32 [N, H, W], and scores float32 [N] by their names.
#: ATE: `ate` float32 [N, rows, columns] in points, 0 where a block was not visited or passed over;
#: `base_dice` in points; `num_interventions`: inputs evaluated besides the untouched image.
#: MiSuRe: `sufficient` bool [N, H, W]; `dilations` int32 [N]; `dice_trace` [N, max_dilations + 1],
#: NaN-padded; `mask` [N, H, W], the soft mask or the level of the best region; `trace`
#: [N, num_iterations], the published loss or the area of the region over that of the segment, NaN
#: after the last; `dice_minimal` [N], hard Dice of what is segmented from the masked image.
#: Components: `effects` and `first_order` [N, parts] in points, NaN for parts that were left out.
Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a method is given.

    Attributes:
      images: float32 [N, H, W, C].
      targets: leaves [N, ...].
      others: float32 [N, R, H, W, C], other images for each, or None.
      draws: patches of other images for each block, or None. Of the ATE's gradient `full` holds one
        patch for each of its fields.
      pool: what methods that draw by themselves draw from, or None.
      blocks: of the ATE, bool [N, rows, columns], the only ones to look at; None: all.
      masks: of methods that mask, what these are made of, or None. Of RISE the cells bool
        [N, n, grid, grid] and the shifts int32 [N, n, 2] of n masks; of KernelSHAP the first
        coalition of every pair of P players bool [N, pairs, P], which of them can matter
        bool [N, P], and whose each pixel is, int32 [N, *S].
      every: of so many channels of a layer, the peers of components take the first.
    """

    images: np.ndarray
    targets: SegmentTarget
    others: Array = None
    draws: Any = None
    pool: PatchPool | None = None
    blocks: Array = None
    masks: Any = None
    every: int = 1

    def some(self, which: slice) -> "Inputs":
        """Those of some images."""
        draws, names = self.draws, ("images", "targets", "others", "blocks", "masks")
        return self.replace(
            **{name: some(getattr(self, name), which) for name in names},
            draws=draws and Draws(draws.patches, draws.screen[which], draws.full[which]),
        )

    def one(self, index: int) -> "Inputs":
        """Those of one image; N is 1."""
        return self.some(slice(index, index + 1))

    def replace(self, **changes: Any) -> "Inputs":
        """With other images, targets or draws."""
        return dataclasses.replace(self, **changes)


def some(tree: Any, which: slice | int) -> Any:
    """Some (or one) of the N in every array of a pytree."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[which], tree)


def stack(found: Sequence[Mapping[str, Any]]) -> Arrays:
    """Results of one image each as one of all."""
    return {name: np.stack([np.asarray(one[name]) for one in found]) for name in found[0]}


def join(found: list[Arrays]) -> Arrays:
    """Results of several images each as one of all."""
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def even(candidates: np.ndarray, count: int) -> np.ndarray:
    """`count` evenly spaced ones of the True entries of a bool array (all, if there are fewer)."""
    places = np.flatnonzero(candidates)
    count = min(count, len(places))
    chosen = np.zeros(candidates.size, bool)
    # Midpoints of equal stretches: neither end of the image is favoured.
    chosen[places[((np.arange(count) + 0.5) * len(places) / max(count, 1)).astype(int)]] = True
    return chosen.reshape(candidates.shape)


def pool_of_nobody(patches: np.ndarray) -> PatchPool:
    """A pool from which every image may draw every patch."""
    sources = np.repeat(image_id("nobody")[None], len(patches), axis=0)
    return PatchPool(patches=np.asarray(patches), sources=sources)


def ids_of(count: int) -> np.ndarray:
    """Ids of that many images, uint32 [count, 2]; together with the key of 0 they fix all draws."""
    return np.stack([image_id(f"benchmark-{i}") for i in range(count)])


def part_name(layer: str, channel: int | None) -> str:
    """Of a layer or skip connection (None), or of a channel: "encoder/0/conv1/3"."""
    return layer if channel is None else f"{layer}/{channel}"
