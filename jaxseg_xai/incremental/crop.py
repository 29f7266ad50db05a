"""A model on images that are black but for one window: only what the window can change."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Array, Predict
from jaxseg_xai.incremental.evaluate import Place, Placed, Prepared, evaluate, prepare, put
from jaxseg_xai.incremental.plan import Plan
from jaxseg_xai.incremental.planner import make_plan
from jaxseg_xai.incremental.positions import check_rank, covering, sides_of


class Spot(NamedTuple):
    """A position of the window, as near to a box as there is one.

    Attributes:
      block: int32 [rank], the position along each axis.
      fits: bool [], whether the window there holds the box.
    """

    block: jax.Array
    fits: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class CroppedPredict:
    """A model on images that are 0 outside a window, by `crop_predict`; exact, not a crop of it.

    Of every layer only the window that can differ from the response to a black image is computed,
    and put over that response. All methods may be traced, differentiated with respect to `window`,
    and `vmap`ped over blocks and windows with the prepared response shared.

    Attributes:
      plan: what is computed; `str(plan)` tells layer by layer, and what has no windows, and why.
      step: pixels along each axis between positions of the window.
      local: whether only the logits under the window come out.
    """

    plan: Plan
    step: tuple[int, ...]
    local: bool

    @property
    def window(self) -> tuple[int, ...]:
        """Sides of the window."""
        return self.plan.block

    @property
    def flops(self) -> int:
        """Of one forward pass in the window; convolutions and matrix products only."""
        return self.plan.flops

    @property
    def dense_flops(self) -> int:
        """Of one forward pass of the model on a whole image."""
        return self.plan.dense_flops

    @property
    def share(self) -> float:
        """`Plan.share` of the window's plan."""
        return self.plan.share

    @property
    def derivatives(self) -> frozenset[str]:
        """Functions in the model that define their derivative themselves.

        Gradients are those of what they compute; if there are any, these may not be the model's.
        """
        return self.plan.program.derivatives

    def prepare(self, variables: Any) -> Prepared:
        """The response to a black image, shared by all windows."""
        return prepare(self.plan, variables, jnp.zeros(self.plan.image_shape, self._dtype))

    def spot(self, low: Array, high: Array) -> Spot:
        """Where the window has to be to hold a box.

        One does wherever no side of the box is longer than `window - step + 1`; or than the window,
        where the box ends at the border. An empty box fits anywhere.

        Args:
          low: int [rank], first pixel of the box along each axis.
          high: int [rank], one past its last.
        """
        sizes = zip(self.plan.image_shape, self.window, self.step, low, high, strict=False)
        found = [covering(*each) for each in sizes]
        # The compiler would find the position anew wherever it is used.
        block = lax.optimization_barrier(jnp.stack([along.block for along in found]))
        return Spot(block, functools.reduce(jnp.logical_and, [along.fits for along in found]))

    def start(self, block: Array) -> jax.Array:
        """First pixel of the window along each axis, int32 [rank]."""
        starts = (jnp.asarray(self.plan.block_starts[axis], jnp.int32) for axis in self.plan.axes)
        return jnp.stack([start[block[d]] for d, start in enumerate(starts)])

    def cut(self, image: Array, block: Array) -> jax.Array:
        """The window [*w, ...] of a map [*S, ...]."""
        found, start = jnp.asarray(image), self.start(block)
        for d, side in enumerate(self.window):
            found = lax.dynamic_slice_in_dim(found, start[d], side, d)
        return found

    def put(self, prepared: Prepared, block: Array) -> Placed:
        """What the model reads around the window at a position; make it once, before loops.

        Args:
          prepared: from `prepare`.
          block: int32 [rank], position of the window, from `spot`.
        """
        block = jnp.asarray(block, jnp.int32)
        corner = self.start(block) if self.local else jnp.zeros(len(self.window), jnp.int32)
        return put(self.plan, prepared, Place(block, corner))

    def logits(self, prepared: Prepared, placed: Placed, window: Array) -> jax.Array:
        """The model's logits for the image that holds the window and is 0 elsewhere.

        Args:
          prepared: from `prepare`.
          placed: from `put`.
          window: [*w, C], its pixels.

        Returns:
          float32 [*S, K]; if `local`, only those under the window, [*w, K].
        """
        return evaluate(self.plan, prepared, placed, jnp.asarray(window)[None])[0]

    @property
    def _dtype(self) -> Any:
        return self.plan.program.shapes[self.plan.program.image].dtype


def crop_predict(
    predict: Predict,
    variables: Any,
    image_shape: tuple[int, ...],
    *,
    window: tuple[int, ...],
    step: tuple[int, ...],
    local: bool = False,
    dtype: Any = np.float32,
) -> CroppedPredict:
    """Plan a model on images that are 0 outside a window.

    Args:
      predict: the model.
      variables: its weights, or their shapes.
      image_shape: (H, W, C), or (D, H, W, C) of volumes.
      window: its sides, no larger than the image's.
      step: pixels along each axis from one position of the window to the next; the last one ends at
        the border. Sizes and steps that are multiples of the model's stride are fastest, for the
        windows of its layers then keep their distance.
      local: compute only the logits under the window: cheaper where others do not matter.
      dtype: of images.

    Raises:
      ConfigError: a window or step that is less than 1, a window larger than the image, a step
        larger than the window, or not a number for every axis.
      ModelError: the model cannot be traced for images of this shape.
    """
    rank = len(image_shape) - 1
    for name, given in (("window", window), ("step", step)):
        check_rank(name, given, rank)
    for name, side, each, whole in zip(sides_of(rank), window, step, image_shape, strict=False):
        if not 1 <= side <= whole:
            raise ConfigError(
                f"the window's {name} is {side}; it must be between 1 and the image's {whole}"
            )
        if not 1 <= each <= side:
            raise ConfigError(
                f"the window's step along the {name} is {each}; it must be between 1 and the "
                f"window's {side}"
            )
    plan = make_plan(
        predict,
        variables,
        image_shape,
        block=window,
        block_step=step,
        region=None if local else image_shape[:-1],
        num_patches=1,
        dtype=dtype,
    )
    return CroppedPredict(plan, step, local)
