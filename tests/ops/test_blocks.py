import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.ops.blocks import (
    any_in_block,
    grid_shape,
    paint_blocks,
    replace_block,
    sum_in_block,
    tile_patches,
)

HEIGHT, WIDTH, SIDE = 10, 13, 4  # 3 x 4 blocks, the last of each cut off


def test_the_blocks_cover_the_image():
    assert grid_shape(HEIGHT, WIDTH, SIDE) == (3, 4)
    numbers = jnp.arange(12).reshape(3, 4)
    painted = paint_blocks(numbers, SIDE, HEIGHT, WIDTH)
    assert painted.shape == (HEIGHT, WIDTH)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    np.testing.assert_array_equal(painted, y // SIDE * 4 + x // SIDE)


@pytest.mark.parametrize("block", [0, 5, 3, 8, 11])
def test_a_patch_replaces_exactly_its_block(block):
    image = np.random.default_rng(0).random((HEIGHT, WIDTH, 2)).astype(np.float32)
    patch = np.random.default_rng(1).random((SIDE, SIDE, 2)).astype(np.float32) + 1
    y, x = block // 4 * SIDE, block % 4 * SIDE
    expected = image.copy()
    here = expected[y : y + SIDE, x : x + SIDE]
    here[:] = patch[: here.shape[0], : here.shape[1]]
    np.testing.assert_array_equal(jax.jit(replace_block)(image, patch, block), expected)


def test_which_blocks_a_region_touches():
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[9, 12] = region[3, 4] = True
    expected = np.zeros((3, 4), bool)
    expected[2, 3] = expected[0, 1] = True
    np.testing.assert_array_equal(any_in_block(region, SIDE), expected)


def test_sums_and_tiles_of_blocks_that_are_cut_off():
    values = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    sums = sum_in_block(values, 3)
    assert sums.shape == (2, 3)
    assert sums[1, 2] == pytest.approx(values[3:, 6:].sum())
    patches = np.arange(6, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 3, 2), "f4")
    tiled = tile_patches(patches, 5, 7)
    assert tiled.shape == (5, 7, 2)
    np.testing.assert_array_equal(tiled[..., 0], paint_blocks(np.arange(6).reshape(2, 3), 3, 5, 7))
