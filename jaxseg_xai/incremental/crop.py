"""A model on images that are black but for one window: only what the window can change."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Array, Predict
from jaxseg_xai.incremental.evaluate import Place, Placed, Prepared, evaluate, prepare, put
from jaxseg_xai.incremental.plan import AXES, Plan
from jaxseg_xai.incremental.planner import make_plan
from jaxseg_xai.incremental.positions import covering


class Spot(NamedTuple):
    """A position of the window, as near to a box as there is one.

    Attributes:
      block: int32 [2], row and column of the position.
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
      step: (rows, columns) between positions of the window.
      local: whether only the logits under the window come out.
    """

    plan: Plan
    step: tuple[int, int]
    local: bool

    @property
    def window(self) -> tuple[int, int]:
        """(height, width) of the window."""
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
        """`flops / dense_flops`: about 1 where the model mixes all positions, or has no FLOPs."""
        return self.flops / self.dense_flops if self.dense_flops else 1.0

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
          low: int [2], first row and column of the box.
          high: int [2], one past its last.
        """
        sizes = zip(self.plan.image_shape, self.window, self.step, low, high, strict=False)
        rows, columns = (covering(*each) for each in sizes)
        # The compiler would find the position anew wherever it is used.
        block = lax.optimization_barrier(jnp.stack([rows.block, columns.block]))
        return Spot(block, rows.fits & columns.fits)

    def start(self, block: Array) -> jax.Array:
        """First row and column of the window, int32 [2] in pixels."""
        starts = (jnp.asarray(self.plan.block_starts[axis], jnp.int32) for axis in AXES)
        return jnp.stack([start[block[d]] for d, start in enumerate(starts)])

    def cut(self, image: Array, block: Array) -> jax.Array:
        """The window [h, w, ...] of a map [H, W, ...]."""
        row, column = self.start(block)
        image = lax.dynamic_slice_in_dim(jnp.asarray(image), row, self.window[0], 0)
        return lax.dynamic_slice_in_dim(image, column, self.window[1], 1)

    def put(self, prepared: Prepared, block: Array) -> Placed:
        """What the model reads around the window at a position; make it once, before loops.

        Args:
          prepared: from `prepare`.
          block: int32 [2], position of the window, from `spot`.
        """
        block = jnp.asarray(block, jnp.int32)
        corner = self.start(block) if self.local else jnp.zeros(2, jnp.int32)
        return put(self.plan, prepared, Place(block, corner))

    def logits(self, prepared: Prepared, placed: Placed, window: Array) -> jax.Array:
        """The model's logits for the image that holds the window and is 0 elsewhere.

        Args:
          prepared: from `prepare`.
          placed: from `put`.
          window: [h, w, C], its pixels.

        Returns:
          float32 [H, W, K]; if `local`, only those under the window, [h, w, K].
        """
        return evaluate(self.plan, prepared, placed, jnp.asarray(window)[None])[0]

    @property
    def _dtype(self) -> Any:
        return self.plan.program.shapes[self.plan.program.image].dtype


def crop_predict(
    predict: Predict,
    variables: Any,
    image_shape: tuple[int, int, int],
    *,
    window: tuple[int, int],
    step: tuple[int, int],
    local: bool = False,
    dtype: Any = np.float32,
) -> CroppedPredict:
    """Plan a model on images that are 0 outside a window.

    Args:
      predict: the model.
      variables: its weights, or their shapes.
      image_shape: (H, W, C).
      window: (height, width), no larger than the image.
      step: (rows, columns) from one position of the window to the next; the last one ends at the
        border. Sizes and steps that are multiples of the model's stride are fastest, for the
        windows of its layers then keep their distance.
      local: compute only the logits under the window: cheaper where others do not matter.
      dtype: of images.

    Raises:
      ConfigError: a window or step that is less than 1, a window larger than the image, or a step
        larger than the window.
      ModelError: the model cannot be traced for images of this shape.
    """
    sizes = zip(("height", "width"), window, step, image_shape, strict=False)
    for name, side, each, whole in sizes:
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
        region=None if local else image_shape[:2],
        num_patches=1,
        dtype=dtype,
    )
    return CroppedPredict(plan, step, local)
