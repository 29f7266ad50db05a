"""What is put in the place of a block: patches of other images, or content made from the image."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import Array
from jaxseg_xai.ops.blocks import grid_shape

#: Kinds made from the image itself; only "noise" differs from draw to draw.
MADE = ("zero", "mean", "blur", "noise")


class Draws(NamedTuple):
    """Which patch replaces which block.

    Attributes:
      patches: float32 [P, b, b, C].
      screen: int32 [B, n, s], patches that screen each of the n blocks (row by row).
      full: int32 [B, n, k], patches of the full intervention.
    """

    patches: Array
    screen: Array
    full: Array


def made_draws(
    kind: str, images: jax.Array, keys: jax.Array, side: int, screen: int, full: int
) -> Draws:
    """Replacements made from the images themselves.

    zero: nothing. mean: the image's mean colour. blur: the block as it is in the blurred image
    (Gaussian, standard deviation half a block). noise: normal, with the image's mean and standard
    deviation per channel, anew for every draw.

    Args:
      kind: one of `MADE`.
      images: float32 [B, H, W, C].
      keys: keys [B], for noise.
      side: b of the blocks.
      screen: s, draws of the screening (noise only; the others are never screened).
      full: k, draws of the full intervention (noise only; the others have one).
    """
    batch, height, width, channels = images.shape
    rows, columns = grid_shape(height, width, side)
    blocks, patch = rows * columns, (side, side, channels)
    mean = jnp.mean(images, axis=(1, 2))
    if kind == "blur":
        patches = jax.vmap(lambda image: _tiles(_blurred(image, side / 2), side))(images)
        patches = patches.reshape(-1, *patch)
        which = jnp.arange(batch * blocks).reshape(batch, blocks, 1)
    elif kind == "noise":
        draws = screen + full
        spread = jnp.std(images, axis=(1, 2))
        noise = jax.vmap(lambda key: jax.random.normal(key, (draws, *patch)))(keys)
        noise = mean[:, None, None, None] + spread[:, None, None, None] * noise
        patches = noise.reshape(-1, *patch)
        # All blocks of an image share its fields of noise, as they would share reference images.
        which = jnp.arange(batch * draws).reshape(batch, 1, draws)
        which = jnp.broadcast_to(which, (batch, blocks, draws))
        return Draws(patches, which[..., :screen], which[..., screen:])
    else:
        colour = mean if kind == "mean" else jnp.zeros_like(mean)
        patches = jnp.broadcast_to(colour[:, None, None], (batch, *patch))
        which = jnp.broadcast_to(jnp.arange(batch)[:, None, None], (batch, blocks, 1))
    return Draws(patches, which[..., :0], which)


def _blurred(image: jax.Array, deviation: float) -> jax.Array:
    """Gaussian blur of [H, W, C]; the border's pixels go on outside."""
    reach = int(3 * deviation + 0.5)
    weights = jnp.exp(-0.5 * (jnp.arange(-reach, reach + 1) / deviation) ** 2)
    weights /= weights.sum()
    along: Callable = lambda row: jnp.convolve(row, weights, mode="valid")  # noqa: E731
    for axis in (0, 1):
        pads = [(reach, reach) if d == axis else (0, 0) for d in range(3)]
        image = jnp.apply_along_axis(along, axis, jnp.pad(image, pads, mode="edge"))
    return image


def _tiles(image: jax.Array, side: int) -> jax.Array:
    """The blocks of [H, W, C] as [n, b, b, C]; those that are cut off are filled up."""
    height, width, channels = image.shape
    rows, columns = grid_shape(height, width, side)
    image = jnp.pad(image, ((0, -height % side), (0, -width % side), (0, 0)), mode="edge")
    tiles = image.reshape(rows, side, columns, side, channels).swapaxes(1, 2)
    return tiles.reshape(-1, side, side, channels)
