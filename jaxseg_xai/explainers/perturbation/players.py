"""Players of a game: the parts of the image that are shown or hidden as a whole."""

import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.explainers.base import Example
from jaxseg_xai.ops.blocks import grid_shape, paint_blocks
from jaxseg_xai.ops.superpixels import slic

#: "blocks" side by side; "superpixels", as many, whose borders follow the image; "labels": the
#: classes as the model itself segments them (organs), one player each.
Players = Literal["blocks", "superpixels", "labels"]


def num_players(kind: Players, block_size: int, shape: Sequence[int], output: OutputSpec) -> int:
    """How many players images of a size S have at most."""
    if kind == "labels":
        return output.num_classes + output.overlapping
    return math.prod(grid_shape(shape, block_size))


def players_of(
    kind: Players, block_size: int, example: Example, logits: jax.Array, output: OutputSpec
) -> jax.Array:
    """The player that each pixel belongs to, int32 [*S] in [0, num_players).

    Of classes that overlap a pixel belongs to the last that it has; the first player is then what
    has none.

    Args:
      kind: of the players.
      block_size: side of the blocks, or of those that superpixels begin as.
      example: the image.
      logits: float32 [*S, K] of the image.
      output: what they mean.
    """
    shape = example.image.shape[:-1]
    match kind:
        case "labels":
            found = output.prediction(jnp.where(jnp.isfinite(logits), logits, 0.0))
            if output.overlapping:
                found = jnp.max(found * jnp.arange(1, found.shape[-1] + 1), axis=-1)
            return found.astype(jnp.int32)
        case "superpixels":
            return slic(jnp.nan_to_num(example.image), block_size, example.own)
        case _:
            grid = grid_shape(shape, block_size)
            numbers = jnp.arange(math.prod(grid), dtype=jnp.int32).reshape(grid)
            return paint_blocks(numbers, block_size, shape)
