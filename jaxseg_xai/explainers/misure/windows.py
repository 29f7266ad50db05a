"""Where MiSuRe looks: outside a mask the model sees 0."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.types import Predict
from jaxseg_xai.incremental.crop import CroppedPredict, Spot, crop_predict
from jaxseg_xai.ops.blocks import bounding_box

#: Windows chosen by themselves: sides as shares of the image's, and where they are worth it (each
#: is a program to compile, and a small image is mostly border).
_SHARES, _SMALLEST_IMAGE = (3 / 8, 1 / 2), 256
#: Sides are multiples of this and of the model's stride, so that the windows of all layers keep
#: their distance.
_GRID = 16
#: A window that saves less than this share of the FLOPs is not worth its overheads.
_WORTH = 0.75


def plan_windows(
    predict: Predict,
    variables: Any,
    image_shape: tuple[int, int, int],
    sides: Sequence[int] | None,
    region_side: int | None = None,
) -> tuple[CroppedPredict, ...]:
    """The windows that are worth having, the smallest first.

    Args:
      predict: the model.
      variables: its weights, or their shapes.
      image_shape: (H, W, C).
      sides: of square windows in pixels; None chooses them.
      region_side: of a box that holds every region that is explained; windows then hold the region
        too, and no logits outside of them are computed. None if nothing is known.

    Returns:
      None of those that the model makes as expensive as the whole image (it mixes all positions),
      or whose gradient could be another than the model's own (it defines derivatives itself).
    """
    shortest = min(image_shape[:2])
    grid = math.lcm(_GRID, getattr(predict, "stride", 1))
    if sides is None:
        large = shortest >= _SMALLEST_IMAGE
        sides = [round(share * shortest / grid) * grid for share in _SHARES] if large else []
    crops = []
    for side in sorted({side for side in sides if (region_side or 0) <= side < shortest}):
        step = min(grid, side)
        crop = crop_predict(
            predict,
            variables,
            image_shape,
            window=(side, side),
            step=(step, step),
            local=region_side is not None,
        )
        if crop.share <= _WORTH and not crop.derivatives:
            crops.append(crop)
    return tuple(crops)


class View(Protocol):
    """How the model is asked for its logits of a masked image."""

    def holds(self, mask: jax.Array, region: jax.Array) -> jax.Array:
        """Whether it can look at images inside a mask [H, W] for a region [H, W]; bool []."""
        ...

    def place(self, mask: jax.Array, region: jax.Array) -> Any:
        """What is the same for all masks inside the given one."""
        ...

    def logits(self, place: Any, image: jax.Array, mask: jax.Array) -> jax.Array:
        """Of image [H, W, C] times mask [H, W]; [H, W, K]. Right in the region at least."""
        ...


class WholeView(NamedTuple):
    """The model as it is."""

    predict: Predict
    variables: Any

    def holds(self, mask: jax.Array, region: jax.Array) -> jax.Array:
        """Always."""
        return jnp.bool(True)

    def place(self, mask: jax.Array, region: jax.Array) -> None:
        """Nothing."""

    def logits(self, place: None, image: jax.Array, mask: jax.Array) -> jax.Array:
        """One forward pass."""
        return self.predict(self.variables, (image * mask[..., None])[None])[0]


class WindowView:
    """Only what a window can change, over the response to a black image."""

    def __init__(self, crop: CroppedPredict, variables: Any) -> None:
        self._crop, self._prepared = crop, crop.prepare(variables)

    def holds(self, mask: jax.Array, region: jax.Array) -> jax.Array:
        """Whether a window holds the mask (and the region, if nothing else is computed)."""
        return self._spot(mask, region).fits

    def place(self, mask: jax.Array, region: jax.Array) -> tuple[jax.Array, Any]:
        """The window's position, and what the model reads around it."""
        block = self._spot(mask, region).block
        return block, self._crop.put(self._prepared, block)

    def logits(self, place: tuple, image: jax.Array, mask: jax.Array) -> jax.Array:
        """One forward pass in windows."""
        block, placed = place
        window = self._crop.cut(image, block) * self._crop.cut(mask, block)[..., None]
        found = self._crop.logits(self._prepared, placed, window)
        if self._crop.local:
            corner = self._crop.start(block)
            black = self._prepared.logits
            found = lax.dynamic_update_slice(black, found, (corner[0], corner[1], 0))
        return found

    def _spot(self, mask: jax.Array, region: jax.Array) -> Spot:
        return self._crop.spot(*bounding_box(mask | region if self._crop.local else mask))


def first_holding(views: Sequence[View], masks: jax.Array, regions: jax.Array) -> jax.Array:
    """Which view is the first to hold each mask and region bool [B, H, W]; int32 [B]."""

    def choose(mask: jax.Array, region: jax.Array) -> jax.Array:
        return jnp.argmax(jnp.stack([view.holds(mask, region) for view in views]))

    return jax.vmap(choose)(masks, regions).astype(jnp.int32)
