import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg_xai.ops.dilation import dilate, ellipse


def test_the_ellipse_of_the_definition():
    expected = ["0001000", "0111110", "1111111", "1111111", "1111111", "0111110", "0001000"]
    assert ["".join(map(str, row)) for row in ellipse(7).astype(int)] == expected
    assert ellipse(1).tolist() == [[True]]


@pytest.mark.parametrize("size", [1, 3, 7, 9])
def test_the_ellipsoid_has_the_ellipse_in_its_middle(size):
    found = ellipse(size, rank=3)
    assert found.shape == (size, size, size)
    np.testing.assert_array_equal(found[size // 2], ellipse(size))
    np.testing.assert_array_equal(found, found[::-1, ::-1, ::-1])
    # Its lines of voxels are along the last axis; the other two are alike.
    np.testing.assert_array_equal(found, found.swapaxes(0, 1))
    assert found.sum() < size * ellipse(size).sum() or size == 1


@pytest.mark.parametrize("shape", [(20, 31), (9, 12, 14)])
@pytest.mark.parametrize("size", [1, 3, 7, 9, 21])
def test_dilation_equals_scipy(size, shape):
    mask = np.random.default_rng(size).random(shape) < 0.02
    mask.flat[0] = mask.flat[-1] = True
    element = ellipse(size, len(shape))
    found = jax.jit(lambda m: dilate(m, element))(mask)
    np.testing.assert_array_equal(found, ndimage.binary_dilation(mask, element))
