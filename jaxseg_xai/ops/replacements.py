"""What is put in the place of a block: patches of other images, or content made from the image."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.types import Array
from jaxseg_xai.ops.baselines import blurred, mean_colour
from jaxseg_xai.ops.blocks import grid_shape, split_blocks
from jaxseg_xai.ops.padding import continued, own_pixels
from jaxseg_xai.ops.random import one_stream

#: Kinds made from the image itself; only "noise" differs from draw to draw.
MADE = ("zero", "mean", "blur", "noise")


class Draws(NamedTuple):
    """Which patch replaces which block.

    Attributes:
      patches: float32 [P, *(b,), C].
      screen: int32 [B, n, s], patches that screen each of the n blocks (row by row).
      full: int32 [B, n, k], patches of the full intervention.
    """

    patches: Array
    screen: Array
    full: Array


def made_draws(
    kind: str,
    images: jax.Array,
    keys: jax.Array,
    side: int,
    screen: int,
    full: int,
    sizes: Array | None = None,
) -> Draws:
    """Replacements made from the images themselves.

    zero: nothing. mean: the image's mean colour. blur: the block as it is in the blurred image
    (Gaussian, standard deviation half a block). noise: normal, with the image's mean and standard
    deviation per channel, anew for every draw.

    Args:
      kind: one of `MADE`.
      images: float32 [B, *S, C].
      keys: keys [B], for noise.
      side: b of the blocks.
      screen: s, draws of the screening (noise only; the others are never screened).
      full: k, draws of the full intervention (noise only; the others have one).
      sizes: int32 [B, rank], of the images without their padding, which counts nothing; or None.
    """
    batch, *shape, channels = images.shape
    rank = len(shape)
    axes, one_patch = tuple(range(1, rank + 1)), (*(side,) * rank, channels)
    blocks = int(np.prod(grid_shape(shape, side)))
    if kind == "blur":

        def blocks_of(image: jax.Array, size: Array | None) -> jax.Array:
            return split_blocks(blurred(image, side / 2, size), side)

        patches = jax.vmap(blocks_of)(images, sizes).reshape(-1, *one_patch)
        which = jnp.arange(batch * blocks, dtype=jnp.int32).reshape(batch, blocks, 1)
        return Draws(patches, which[..., :0], which)
    mean = jax.vmap(mean_colour)(images, sizes).reshape(batch, channels)
    if kind == "noise":
        own = None
        if sizes is not None:
            own = jax.vmap(lambda size: own_pixels(size, shape))(sizes)[..., None]
            images = jax.vmap(continued)(images, sizes)
        draws = screen + full
        spread = jnp.std(images, axis=axes, where=own)
        with one_stream():
            # float32 by name: with 64 bits switched on, the default draws other numbers.
            normal = functools.partial(jax.random.normal, dtype=jnp.float32)
            noise = jax.vmap(lambda key: normal(key, (draws, *one_patch)))(keys)
        level, scale = (jnp.expand_dims(x, tuple(range(1, rank + 2))) for x in (mean, spread))
        patches = (level + scale * noise).reshape(-1, *one_patch)
        # All blocks of an image share its fields of noise, as they would share reference images.
        which = jnp.arange(batch * draws, dtype=jnp.int32).reshape(batch, 1, draws)
        which = jnp.broadcast_to(which, (batch, blocks, draws))
        return Draws(patches, which[..., :screen], which[..., screen:])
    colour = mean if kind == "mean" else jnp.zeros_like(mean)
    patches = jnp.broadcast_to(jnp.expand_dims(colour, axes), (batch, *one_patch))
    which = jnp.broadcast_to(jnp.arange(batch, dtype=jnp.int32)[:, None, None], (batch, blocks, 1))
    return Draws(patches, which[..., :0], which)
