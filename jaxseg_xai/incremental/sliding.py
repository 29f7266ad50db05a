"""Sliding windows: of the patches, only those that a block can change and the region sees.

A pixel's logits are the weighted mean of those of its patches (`jaxseg_xai.ops.sliding`). What an
intervention changes in that mean is the sum over the patches that hold some of the block and some
of the region, of the weight times what it changes in the patch's own logits. Each of these patches
is an image with a block and a region of its own, and is evaluated in windows where these pay.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.incremental.plan import Plan
from jaxseg_xai.incremental.planner import make_plan
from jaxseg_xai.incremental.positions import check_sizes
from jaxseg_xai.incremental.reads import kept_bytes
from jaxseg_xai.ops.sliding import SlidingWindow, gaussian, tile_starts, total_weights

#: Bytes of the activations of all patches that a region sees, for windows to be filled up from, at
#: most: above it patches are evaluated whole.
_MOST_KEPT = 2**31


@dataclasses.dataclass(frozen=True, eq=False)
class SlidingPlan:
    """Which patches an intervention makes necessary, and how they are evaluated.

    Along an axis, pixels are counted on the image with the zeros around it that a patch larger than
    the image needs; patches begin at `starts`.

    Attributes:
      segmenter: of an image; of one patch, the network.
      image_shape: (*S, C).
      block: sides of a block.
      region: sides of the box whose logits come out.
      starts: first pixels of the patches along each axis.
      before: zeros before the image along each axis.
      padded: S with the zeros around it.
      patch: how interventions on a block of one patch are evaluated, seen through a box in it.
      step: pixels along each axis from one position of the block in a patch to the next.
      windowed: whether a patch is evaluated in windows.
    """

    segmenter: Segmenter
    image_shape: tuple[int, ...]
    block: tuple[int, ...]
    region: tuple[int, ...]
    starts: tuple[np.ndarray, ...]
    before: tuple[int, ...]
    padded: tuple[int, ...]
    patch: Plan
    step: tuple[int, ...]
    windowed: bool

    @property
    def sides(self) -> tuple[int, ...]:
        """Of a patch."""
        return self.patch.image_shape[:-1]

    @property
    def num_patches(self) -> int:
        """Interventions that are evaluated at once."""
        return self.patch.num_patches

    @property
    def evaluated(self) -> int:
        """Patches that an intervention makes necessary, at most."""
        found = 1
        for d, n in enumerate(self.image_shape[:-1]):
            blocks, regions = np.arange(0, n, self.block[d]), np.arange(n - self.region[d] + 1)
            changed = self._holding(d, blocks, np.minimum(blocks + self.block[d], n))
            seen = self._holding(d, regions, regions + self.region[d])
            found *= int((changed @ seen.T).max())
        return found

    @property
    def shown(self) -> tuple[int, ...]:
        """How many patches along each axis see a region, at most."""
        found = []
        for d, n in enumerate(self.image_shape[:-1]):
            regions = np.arange(n - self.region[d] + 1)
            found.append(int(self._holding(d, regions, regions + self.region[d]).sum(1).max()))
        return tuple(found)

    @property
    def weight(self) -> np.ndarray:
        """Of the pixels of a patch, float32 [*P]."""
        return gaussian(self.segmenter.apply.patch).transpose(self._order)

    @property
    def total_weight(self) -> np.ndarray:
        """Sum of the weights of all patches, float64 [*padded]."""
        model = self.segmenter.apply
        size = tuple(self.padded[axis] for axis in model.axes)
        return total_weights(size, model.patch).transpose(self._order)

    @property
    def total(self) -> int:
        """Patches of the image."""
        return math.prod(map(len, self.starts))

    @property
    def flops(self) -> int:
        """Of one intervention at most, convolutions and matrix products only."""
        return self.evaluated * (self.patch.flops if self.windowed else self.patch.dense_flops)

    @property
    def dense_flops(self) -> int:
        """Of one forward pass over all patches, convolutions and matrix products only."""
        return self.total * self.patch.dense_flops

    @property
    def share(self) -> float:
        """`flops / dense_flops`, at most."""
        return self.flops / self.dense_flops if self.dense_flops else 1.0

    @property
    def kept_bytes(self) -> int:
        """Of the activations that are kept, for windows to be filled up from."""
        return math.prod(self.shown) * kept_bytes(self.patch) if self.windowed else 0

    @property
    def saves_nothing(self) -> bool:
        """Whether the whole model does as well."""
        return self.evaluated == self.total and not self.windowed

    @property
    def _order(self) -> np.ndarray:
        return np.argsort(self.segmenter.apply.axes)

    def _holding(self, d: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Which patches hold some pixel of [low, high) of the image, int [positions, patches]."""
        start, shift = self.starts[d], self.before[d]
        held = (start < high[:, None] + shift) & (low[:, None] + shift < start + self.sides[d])
        return held.astype(int)

    def __str__(self) -> str:
        how = "in windows" if self.windowed else "whole"
        return (
            f"Sliding window: {self.evaluated} of {self.total} patches are evaluated at most, "
            f"{how}; {self.share:.3g} of the FLOPs of a forward pass. Of each patch:\n{self.patch}"
        )


def slides(segmenter: Segmenter) -> bool:
    """Whether a model takes patches of images that `make_sliding_plan` knows: no slices."""
    model = segmenter.apply
    return isinstance(model, SlidingWindow) and model.patch_of_image is not None


def make_sliding_plan(
    segmenter: Segmenter,
    variables: Any,
    image_shape: tuple[int, ...],
    *,
    block: tuple[int, ...],
    region: tuple[int, ...],
    num_patches: int,
) -> SlidingPlan:
    """Plan interventions on the blocks of an image, seen through a box; see `make_plan`.

    Args:
      segmenter: the model, one that `slides`.
      variables: its weights, or their shapes.
      image_shape: (*S, C).
      block: sides of the blocks, a grid of which begins with the image.
      region: sides of the box in the output that matters, at any position.
      num_patches: interventions on one block that are evaluated at once.

    Raises:
      ConfigError, ModelError: see `make_plan`.
    """
    check_sizes(image_shape, block, region, num_patches)
    shape, sides = image_shape[:-1], segmenter.apply.patch_of_image
    padded = tuple(map(max, shape, sides))
    starts = tuple(np.array(tile_starts(n, side)) for n, side in zip(padded, sides, strict=True))
    before = tuple((wide - n) // 2 for wide, n in zip(padded, shape, strict=True))
    inner = tuple(map(min, block, sides))
    # Blocks begin at multiples of these in their patches.
    step = tuple(
        math.gcd(wide, zeros, side - own, *map(int, first))
        for wide, zeros, side, own, first in zip(block, before, sides, inner, starts, strict=True)
    )
    plan_for = functools.partial(
        make_plan,
        segmenter,
        variables,
        (*sides, image_shape[-1]),
        block=inner,
        region=tuple(map(min, region, sides)),
        block_step=step,
    )
    one = plan_for(num_patches=1)
    plan = SlidingPlan(
        segmenter=segmenter,
        image_shape=tuple(image_shape),
        block=tuple(block),
        region=tuple(region),
        starts=starts,
        before=before,
        padded=padded,
        patch=one if num_patches == 1 else plan_for(num_patches=num_patches),
        step=step,
        windowed=not one.saves_nothing,
    )
    # Of one at a time, so that every number of them decides alike.
    fits = math.prod(plan.shown) * kept_bytes(one) <= _MOST_KEPT
    return plan if fits else dataclasses.replace(plan, windowed=False)
