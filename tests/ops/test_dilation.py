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
def test_dilation_equals_scipy(size):
    mask = np.random.default_rng(size).random((20, 31)) < 0.02
    mask[0, 0] = mask[-1, -1] = True
    found = jax.jit(lambda m: dilate(m, ellipse(size)))(mask)
    np.testing.assert_array_equal(found, ndimage.binary_dilation(mask, ellipse(size)))
