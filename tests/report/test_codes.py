import base64
import zlib

import numpy as np
import pytest

from jaxseg_xai.report.codes import NOTHING, encode, shrink


def decoded(values):
    """As the page's JavaScript reads a map."""
    known = encode(values).as_json()
    steps = np.frombuffer(zlib.decompress(base64.b64decode(known["codes"])), np.uint8)
    steps = steps.reshape(values.shape)
    codes = steps.cumsum(-1, dtype=np.uint8).cumsum(-2, dtype=np.uint8)
    levels = np.frombuffer(base64.b64decode(known["levels"]), "<f4")
    found = np.full(codes.shape, np.nan, np.float32)
    found[codes < levels.size] = levels[codes[codes < levels.size]]
    return found, known["error"]


def test_few_different_values_are_exact():
    values = np.random.default_rng(0).normal(size=255).astype(np.float32)
    found, error = decoded(np.repeat(values, 4).reshape(20, 51))
    np.testing.assert_array_equal(found, np.repeat(values, 4).reshape(20, 51))
    assert error == 0


@pytest.mark.parametrize(("sign", "bound"), [("both", 0.008), ("up", 0.004), ("down", 0.004)])
def test_the_error_is_said_and_small(sign, bound):
    values = np.random.default_rng(0).standard_cauchy((64, 64)).astype(np.float32)
    values[0] = 0
    if sign != "both":
        values = np.abs(values) * (1 if sign == "up" else -1)
    found, error = decoded(values)
    off = np.abs(found - values)
    assert off.max() <= error * (1 + 1e-6)
    assert 0 < error <= bound * np.abs(values).max()
    assert (found[0] == 0).all()
    # Finer near zero: values a hundred times smaller than the largest are known to a tenth.
    near = (np.abs(values) > 0.008 * np.abs(values).max()) & (np.abs(values) < 0.012 * values.max())
    assert (off[near] < 0.1 * np.abs(values[near])).all()


def test_what_is_not_finite_has_no_level():
    values = np.array([[np.nan, 1], [np.inf, -2]], np.float32)
    found, error = decoded(values)
    np.testing.assert_array_equal(found, [[np.nan, 1], [np.nan, -2]])
    assert error == 0
    nothing = encode(np.full((2, 2), np.nan))
    assert (nothing.codes == NOTHING).all()
    assert nothing.levels.size == 0


def test_reduced_maps_are_means_and_masks_majorities():
    values = np.arange(35, dtype=np.float32).reshape(5, 7)
    np.testing.assert_array_equal(shrink(values, (2, 2)), [[4, 6, 8], [18, 20, 22]])
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 1]], bool)
    np.testing.assert_array_equal(shrink(mask, (2, 2)), [[True, False]])
    picture = np.full((4, 4, 3), 201, np.uint8)
    np.testing.assert_array_equal(shrink(picture, (4, 4)), picture[:1, :1])
    assert shrink(np.ones((1, 9)), (3, 3)).shape == (1, 3)
    assert shrink(values, (1, 1)) is values
