"""Where stage 2 looks: outside the sufficient region the model sees 0 for ever."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxseg_xai.incremental.crop import CroppedPredict, crop_predict
from jaxseg_xai.types import Predict

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
) -> tuple[CroppedPredict, ...]:
    """The windows that are worth having, the smallest first.

    Args:
      predict: the model.
      variables: its weights, or their shapes.
      image_shape: (H, W, C).
      sides: of square windows in pixels; None chooses them.

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
    for side in sorted({side for side in sides if side < shortest}):
        step = min(grid, side)
        crop = crop_predict(predict, variables, image_shape, window=(side, side), step=(step, step))
        if crop.share <= _WORTH and not crop.derivatives:
            crops.append(crop)
    return tuple(crops)


class View(Protocol):
    """How the model is asked for its logits of a masked image."""

    def place(self, region: jax.Array) -> Any:
        """What is the same for all masks inside a region bool [H, W]."""
        ...

    def logits(self, place: Any, image: jax.Array, mask: jax.Array) -> jax.Array:
        """Of image [H, W, C] times mask [H, W], which is 0 outside the region; [H, W, K]."""
        ...


class WholeView(NamedTuple):
    """The model as it is."""

    predict: Predict
    variables: Any

    def place(self, region: jax.Array) -> None:
        """Nothing."""

    def logits(self, place: None, image: jax.Array, mask: jax.Array) -> jax.Array:
        """One forward pass."""
        return self.predict(self.variables, (image * mask[..., None])[None])[0]


class WindowView:
    """Only what a window can change, over the response to a black image."""

    def __init__(self, crop: CroppedPredict, variables: Any) -> None:
        self._crop, self._prepared = crop, crop.prepare(variables)

    def place(self, region: jax.Array) -> tuple[jax.Array, Any]:
        """The window's position, and what the model reads around it."""
        block = self._crop.spot(*_bounding_box(region)).block
        return block, self._crop.put(self._prepared, block)

    def logits(self, place: tuple, image: jax.Array, mask: jax.Array) -> jax.Array:
        """One forward pass in windows."""
        block, placed = place
        window = self._crop.cut(image, block) * self._crop.cut(mask, block)[..., None]
        return self._crop.logits(self._prepared, placed, window)


def first_holding(crops: Sequence[CroppedPredict], regions: jax.Array) -> jax.Array:
    """Which window holds each region bool [B, H, W]; int32 [B], `len(crops)` where none does."""

    def choose(region: jax.Array) -> jax.Array:
        low, high = _bounding_box(region)
        fits = jnp.stack([*(crop.spot(low, high).fits for crop in crops), jnp.bool(True)])
        return jnp.argmax(fits).astype(jnp.int32)

    return jax.vmap(choose)(regions)


def _bounding_box(region: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First and one past the last row and column of a region [H, W]; int32 [2] each."""
    lows, highs = [], []
    for other, size in ((1, region.shape[0]), (0, region.shape[1])):
        along = jnp.any(region, axis=other)
        lows.append(jnp.argmax(along))
        highs.append(size - jnp.argmax(along[::-1]))
    # Of an empty region: nothing.
    some = jnp.any(region)
    low, high = (jnp.stack(ends).astype(jnp.int32) for ends in (lows, highs))
    return jnp.where(some, low, 0), jnp.where(some, high, 0)
