import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.ops.blocks import (
    any_in_block,
    block_corner,
    bounding_box,
    grid_shape,
    paint_blocks,
    replace_block,
    split_blocks,
    sum_in_block,
    tile_patches,
)

SIDE = 4
#: Sizes whose last block is cut off along every axis, and the grids of their blocks.
SIZES = pytest.mark.parametrize("shape", [(10, 13), (6, 9, 5)])


def places(shape):
    """Slices of every block, row by row."""
    starts = (range(0, size, SIDE) for size in shape)
    return [tuple(slice(n, n + SIDE) for n in corner) for corner in itertools.product(*starts)]


@SIZES
def test_the_blocks_cover_the_image(shape):
    grid = grid_shape(shape, SIDE)
    numbers = jnp.arange(math.prod(grid)).reshape(grid)
    painted = paint_blocks(numbers, SIDE, shape)
    expected = np.full(shape, -1)
    for number, place in enumerate(places(shape)):
        expected[place] = number
        assert block_corner(number, grid).tolist() == [p.start // SIDE for p in place]
    np.testing.assert_array_equal(painted, expected)


@SIZES
def test_a_patch_replaces_exactly_its_block(shape):
    rng = np.random.default_rng(0)
    image = rng.random((*shape, 2)).astype(np.float32)
    patch = rng.random((*(SIDE,) * len(shape), 2)).astype(np.float32) + 1
    replace = jax.jit(replace_block)
    for block, place in enumerate(places(shape)):
        expected = image.copy()
        here = expected[place]
        here[:] = patch[tuple(slice(n) for n in here.shape)]
        np.testing.assert_array_equal(replace(image, patch, block), expected)


@SIZES
def test_which_blocks_a_region_touches(shape):
    region = np.random.default_rng(0).random(shape) > 0.97
    region[tuple(n - 1 for n in shape)] = True
    expected = [region[place].any() for place in places(shape)]
    assert not all(expected)
    np.testing.assert_array_equal(any_in_block(region, SIDE).ravel(), expected)


@SIZES
def test_sums_and_tiles_of_blocks_that_are_cut_off(shape):
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    expected = [values[place].sum() for place in places(shape)]
    np.testing.assert_allclose(sum_in_block(values, SIDE).ravel(), expected, rtol=1e-5)
    grid = grid_shape(shape, SIDE)
    numbers = np.arange(math.prod(grid), dtype=np.float32)
    patches = np.broadcast_to(
        numbers[(...,) + (None,) * (len(shape) + 1)],
        (len(numbers), *(SIDE,) * len(shape), 2),
    )
    tiled = tile_patches(patches, shape)
    assert tiled.shape == (*shape, 2)
    painted = paint_blocks(numbers.reshape(grid), SIDE, shape)
    np.testing.assert_array_equal(tiled, np.stack([painted, painted], axis=-1))


@SIZES
def test_an_image_is_split_into_its_blocks_and_tiled_again(shape):
    image = np.random.default_rng(0).random((*shape, 2)).astype(np.float32)
    blocks = split_blocks(image, SIDE)
    for block, place in zip(blocks, places(shape), strict=True):
        here = image[place]
        np.testing.assert_array_equal(block[tuple(slice(n) for n in here.shape)], here)
    last = image[tuple(n - 1 for n in shape)]
    np.testing.assert_array_equal(blocks[(-1, *(-1,) * len(shape))], last)
    np.testing.assert_array_equal(tile_patches(blocks, shape), image)


@SIZES
def test_the_box_around_a_region(shape):
    region = np.zeros(shape, bool)
    low, high = bounding_box(region)
    assert not low.any()
    assert not high.any()
    region[tuple(n - 2 for n in shape)] = region[tuple(1 for _ in shape)] = True
    low, high = bounding_box(region)
    assert low.tolist() == [1] * len(shape)
    assert high.tolist() == [n - 1 for n in shape]
