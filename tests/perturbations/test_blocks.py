import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.perturbations.blocks import (
    any_in_block,
    grid_shape,
    paint_blocks,
    replace_block,
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
