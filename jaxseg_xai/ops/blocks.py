"""The grid of cubic blocks on an image or volume; those at the end of an axis may be cut off.

S stands for two or three axes, G for as many numbers of blocks along them.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


def grid_shape(shape: Sequence[int], side: int) -> tuple[int, ...]:
    """G: how many blocks of `side` pixels cover each axis of S.

    >>> grid_shape((20, 16), 8)
    (3, 2)
    """
    return tuple(-(-size // side) for size in shape)


def any_in_block(region: jax.Array, side: int) -> jax.Array:
    """Which blocks touch a region: bool [*S] -> bool [*G]."""
    return jnp.any(_in_blocks(region, side), axis=tuple(range(1, 2 * region.ndim, 2)))


def sum_in_block(values: jax.Array, side: int) -> jax.Array:
    """Sum over the pixels of every block: [*S] -> [*G]."""
    return jnp.sum(_in_blocks(values, side), axis=tuple(range(1, 2 * values.ndim, 2)))


def tile_patches(patches: jax.Array, shape: Sequence[int]) -> jax.Array:
    """An image made of one patch per block: [blocks, *(side,), C] -> [*S, C]."""
    rank, (side, channels) = len(shape), (patches.shape[1], patches.shape[-1])
    grid = grid_shape(shape, side)
    tiles = patches.reshape(*grid, *(side,) * rank, channels)
    order = [axis for d in range(rank) for axis in (d, rank + d)]
    whole = tiles.transpose(*order, 2 * rank).reshape(*(n * side for n in grid), channels)
    return whole[tuple(slice(size) for size in shape)]


def split_blocks(image: jax.Array, side: int) -> jax.Array:
    """The blocks of [*S, C] as [blocks, *(side,), C]; those cut off repeat the last pixel."""
    shape, rank = image.shape[:-1], image.ndim - 1
    extra = [(0, -size % side) for size in shape]
    image = jnp.pad(image, [*extra, (0, 0)], mode="edge")
    split = [n for g in grid_shape(shape, side) for n in (g, side)]
    order = [*range(0, 2 * rank, 2), *range(1, 2 * rank, 2), 2 * rank]
    tiles = image.reshape(*split, image.shape[-1]).transpose(order)
    return tiles.reshape(-1, *(side,) * rank, image.shape[-1])


def paint_blocks(values: jax.Array, side: int, shape: Sequence[int]) -> jax.Array:
    """Give every pixel the value of its block: [*G] -> [*S]."""
    for axis in range(len(shape)):
        values = jnp.repeat(values, side, axis)
    return values[tuple(slice(size) for size in shape)]


def block_corner(block: jax.Array, grid: Sequence[int]) -> jax.Array:
    """Number of a block, counted row by row, as int32 [rank] positions in the grid G."""
    positions = []
    for size in reversed(grid):
        positions.append(block % size)
        block = block // size
    return jnp.stack(positions[::-1])


def replace_block(image: jax.Array, patch: jax.Array, block: jax.Array) -> jax.Array:
    """Put a patch in the place of a block.

    Args:
      image: [*S, C].
      patch: [*(side,), C].
      block: int32 [], number of the block, row by row.

    Returns:
      [*S, C].
    """
    shape, side = image.shape[:-1], patch.shape[0]
    corner = side * block_corner(block, grid_shape(shape, side))
    filled = _fill_up(image, len(shape), side)
    found = lax.dynamic_update_slice(filled, patch, (*corner, 0))
    return found[tuple(slice(size) for size in shape)]


def bounding_box(region: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First and one past the last pixel of a region [*S] along each axis; int32 [rank] each."""
    lows, highs = [], []
    for axis, size in enumerate(region.shape):
        along = jnp.any(region, axis=tuple(d for d in range(region.ndim) if d != axis))
        lows.append(jnp.argmax(along))
        highs.append(size - jnp.argmax(along[::-1]))
    # Of an empty region: nothing.
    some = jnp.any(region)
    low, high = (jnp.stack(ends).astype(jnp.int32) for ends in (lows, highs))
    return jnp.where(some, low, 0), jnp.where(some, high, 0)


def _in_blocks(values: jax.Array, side: int) -> jax.Array:
    """[*S] as [g, side, g, side, ...], filled up with zeros."""
    grid = grid_shape(values.shape, side)
    split = [n for g in grid for n in (g, side)]
    return _fill_up(values, values.ndim, side).reshape(split)


def _fill_up(image: jax.Array, rank: int, side: int) -> jax.Array:
    """Pad [*S, ...] at the end of each axis to whole blocks."""
    extra = [(0, -size % side) for size in image.shape[:rank]]
    return jnp.pad(image, extra + [(0, 0)] * (image.ndim - rank))
