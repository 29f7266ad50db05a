"""Compiled programs that stay."""

import jax
import numpy as np

from jaxseg_xai.devices.programs import compiled


def test_double_precision_elsewhere_is_no_other_program_to_call():
    double = jax.jit(lambda x, rate: rate * x)
    x = np.arange(3, dtype=np.float32)
    with jax.enable_x64(True):
        run, seconds = compiled(double.lower, x, 2.0)
        again, no_seconds = compiled(double.lower, x, 2.0)
        found = run(x, 3.0)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [0, 3, 6])
    assert again is run
    assert (seconds > 0, no_seconds) == (True, 0)
