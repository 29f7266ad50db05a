"""How MiSuRe gets the logits of a masked image: from all of it, or a window around the mask."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Predict
from jaxseg_xai.incremental.crop import CroppedPredict, Spot, crop_predict
from jaxseg_xai.ops.blocks import bounding_box

#: Windows where none are asked for: their sides as shares of the image's (of the geometric mean of
#: its own), and the least of these, by the number of axes, of an image that has any. Each window is
#: one more program to compile, and of a smaller image it is mostly border: more than half of the
#: work is left.
_SHARES, _SMALLEST = (3 / 8, 1 / 2), {2: 400, 3: 64}
#: Sides are multiples of this and of the model's stride, so that the windows of all layers keep
#: their distance.
_GRID = 16
#: A window that saves less than this share of the FLOPs is not worth its overheads.
_WORTH = 0.75


def plan_windows(
    segmenter: Segmenter,
    variables: Any,
    image_shape: tuple[int, ...],
    sides: Sequence[int] | None,
    region_side: int | None = None,
) -> tuple[CroppedPredict, ...]:
    """The windows that are worth having, the smallest first.

    Args:
      segmenter: the model.
      variables: its weights, or their shapes.
      image_shape: (*S, C).
      sides: of square or cubic windows in pixels, cut off where an axis is shorter; None chooses
        them.
      region_side: of a box that holds every region that is explained; windows then hold the region
        too, and no logits outside of them are computed. None if nothing is known.

    Returns:
      None of those that the model makes as expensive as the whole image (it mixes all positions),
      or whose gradient could be another than the model's own (it defines derivatives itself).
    """
    shape, grid = image_shape[:-1], math.lcm(_GRID, segmenter.input.multiple_of)
    if sides is None:
        mean = round(math.prod(shape) ** (1 / len(shape)))
        large = math.prod(shape) >= _SMALLEST[len(shape)] ** len(shape)
        sides = [round(share * mean / grid) * grid for share in _SHARES] if large else []
    windows = {tuple(min(side, n) for n in shape) for side in sides if side}
    box = tuple(min(region_side or 0, n) for n in shape)
    crops = []
    for window in sorted(windows - {shape}, key=math.prod):
        if any(side < least for side, least in zip(window, box, strict=True)):
            continue
        crop = crop_predict(
            segmenter,
            variables,
            image_shape,
            window=window,
            step=tuple(min(grid, side) for side in window),
            local=region_side is not None,
        )
        if crop.share <= _WORTH and not crop.derivatives:
            crops.append(crop)
    return tuple(crops)


class View(Protocol):
    """A way to the logits of a masked image. Outside the mask the image is 0."""

    def holds(self, mask: jax.Array, region: jax.Array) -> jax.Array:
        """Whether it can be used for a mask [*S] and a region [*S]; bool []."""
        ...

    def locate(self, mask: jax.Array, region: jax.Array) -> Any:
        """The location to look at, the same for all masks inside the given one."""
        ...

    def logits(self, location: Any, image: jax.Array, mask: jax.Array) -> jax.Array:
        """Logits [*S, K] of image [*S, C] times mask [*S]; right in the region at least."""
        ...


class WholeView(NamedTuple):
    """The model on the whole image."""

    predict: Predict
    variables: Any

    def holds(self, mask: jax.Array, region: jax.Array) -> jax.Array:
        """Always."""
        return jnp.bool(True)

    def locate(self, mask: jax.Array, region: jax.Array) -> None:
        """Nothing to know."""

    def logits(self, location: None, image: jax.Array, mask: jax.Array) -> jax.Array:
        """One forward pass."""
        return self.predict(self.variables, (image * mask[..., None])[None])[0]


class WindowView:
    """The model on a window [*w]: what it can change in the response to a black image."""

    def __init__(self, crop: CroppedPredict, variables: Any) -> None:
        self._crop, self._prepared = crop, crop.prepare(variables)

    def holds(self, mask: jax.Array, region: jax.Array) -> jax.Array:
        """Whether a window holds the mask (and the region, if nothing else is computed)."""
        return self._spot(mask, region).fits

    def locate(self, mask: jax.Array, region: jax.Array) -> tuple[jax.Array, Any]:
        """The window's position, and what the model reads around it."""
        block = self._spot(mask, region).block
        return block, self._crop.put(self._prepared, block)

    def logits(self, location: tuple, image: jax.Array, mask: jax.Array) -> jax.Array:
        """One forward pass in windows."""
        block, around = location
        window = self._crop.cut(image, block) * self._crop.cut(mask, block)[..., None]
        found = self._crop.logits(self._prepared, around, window)
        if self._crop.local:
            corner = self._crop.start(block)
            black = self._prepared.logits
            found = lax.dynamic_update_slice(black, found, (*corner, 0))
        return found

    def _spot(self, mask: jax.Array, region: jax.Array) -> Spot:
        return self._crop.spot(*bounding_box(mask | region if self._crop.local else mask))


def first_holding(views: Sequence[View], masks: jax.Array, regions: jax.Array) -> jax.Array:
    """Which view is the first to hold each mask and region bool [B, *S]; int32 [B]."""

    def choose(mask: jax.Array, region: jax.Array) -> jax.Array:
        return jnp.argmax(jnp.stack([view.holds(mask, region) for view in views]))

    return jax.vmap(choose)(masks, regions).astype(jnp.int32)
