"""The grid of square blocks on an image; those at the bottom and right edge may be cut off."""

import jax
import jax.numpy as jnp
from jax import lax


def grid_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns of blocks of `side` pixels that cover an image."""
    return -(-height // side), -(-width // side)


def any_in_block(region: jax.Array, side: int) -> jax.Array:
    """Which blocks touch a region: bool [H, W] -> bool [rows, columns]."""
    height, width = region.shape
    rows, columns = grid_shape(height, width, side)
    return jnp.any(_fill_up(region, side).reshape(rows, side, columns, side), axis=(1, 3))


def sum_in_block(values: jax.Array, side: int) -> jax.Array:
    """Sum over the pixels of every block: [H, W] -> [rows, columns]."""
    rows, columns = grid_shape(values.shape[0], values.shape[1], side)
    return jnp.sum(_fill_up(values, side).reshape(rows, side, columns, side), axis=(1, 3))


def tile_patches(patches: jax.Array, height: int, width: int) -> jax.Array:
    """An image made of one patch per block: [rows * columns, side, side, C] -> [H, W, C]."""
    _, side, _, channels = patches.shape
    rows, columns = grid_shape(height, width, side)
    grid = patches.reshape(rows, columns, side, side, channels).swapaxes(1, 2)
    return grid.reshape(rows * side, columns * side, channels)[:height, :width]


def paint_blocks(values: jax.Array, side: int, height: int, width: int) -> jax.Array:
    """Give every pixel the value of its block: [rows, columns] -> [H, W]."""
    return jnp.repeat(jnp.repeat(values, side, 0), side, 1)[:height, :width]


def replace_block(image: jax.Array, patch: jax.Array, block: jax.Array) -> jax.Array:
    """Put a patch in the place of a block.

    Args:
      image: [H, W, C].
      patch: [side, side, C].
      block: int32 [], number of the block, row by row.

    Returns:
      [H, W, C].
    """
    height, width, _ = image.shape
    side = patch.shape[0]
    _, columns = grid_shape(height, width, side)
    corner = (block // columns * side, block % columns * side, 0)
    return lax.dynamic_update_slice(_fill_up(image, side), patch, corner)[:height, :width]


def _fill_up(image: jax.Array, side: int) -> jax.Array:
    """Pad [H, W, ...] at the bottom and right to whole blocks."""
    extra = [(0, -size % side) for size in image.shape[:2]]
    return jnp.pad(image, extra + [(0, 0)] * (image.ndim - 2))


def bounding_box(region: jax.Array) -> tuple[jax.Array, jax.Array]:
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
