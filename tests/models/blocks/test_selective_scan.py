"""A scan in chunks against its recurrence, token by token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxseg_xai.models.blocks import selective_scan as module


def recurrence(u, step, a, b, c, skip):
    def token(state, parts):
        u, step, b, c = parts
        state = jnp.exp(step[:, None] * a) * state + (step * u)[:, None] * b
        return state, state @ c + skip * u

    return lax.scan(token, jnp.zeros(a.shape, u.dtype), (u, step, b, c))[1]


@pytest.fixture(scope="module")
def arguments():
    """Two images, of each three scans of ten tokens with four channels and two states."""
    draw = np.random.default_rng(0)
    shapes = {
        "u": (2, 3, 10, 4),
        "step": (2, 3, 10, 4),
        "a": (3, 4, 2),
        "b": (2, 3, 10, 2),
        "c": (2, 3, 10, 2),
        "skip": (3, 4),
    }
    found = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {"step": np.exp(found["step"]), "a": -np.exp(found["a"])}


@pytest.mark.parametrize("chunk", [4, 64])
def test_values_and_gradients_are_those_of_the_recurrence(arguments, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)

    def images(u, step, a, b, c, skip):
        scans = jax.vmap(recurrence)
        return jax.vmap(scans, (0, 0, None, 0, 0, None))(u, step, a, b, c, skip)

    def weighed(function):
        def value(arguments):
            y = function(**arguments)
            return jnp.sum(y * jnp.cos(jnp.arange(y.size)).reshape(y.shape)), y

        return jax.jit(jax.grad(value, has_aux=True))

    found, expected = (weighed(f)(arguments) for f in (module.selective_scan, images))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


def test_half_precision_comes_back_but_is_not_computed_in(arguments):
    short = {name: jnp.asarray(value, jnp.bfloat16) for name, value in arguments.items()}
    exact = module.selective_scan(**jax.tree.map(lambda x: x.astype(jnp.float32), short))
    found = module.selective_scan(**short)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))
