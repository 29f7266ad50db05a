"""Normalisations are as exact as float32 allows, also over many pixels."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxseg_xai.models.norms import norm_layer


@pytest.mark.parametrize(("kind", "size"), [("group", 2), ("instance", 1)])
def test_group_and_instance_norm_of_a_large_image(kind, size):
    x = 3 + np.random.default_rng(0).normal(size=(2, 96, 96, 4))
    groups = x.reshape(2, 96 * 96, -1, size)
    mean, variance = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    layer = norm_layer(kind, 4, nnx.Rngs(0), num_groups=2)
    found = jax.jit(layer)(x.astype(np.float32))
    # 1e-7 is the distance of float32 numbers at 1; sums number by number are off by 3e-5.
    np.testing.assert_allclose(found, expected, atol=3e-6)
