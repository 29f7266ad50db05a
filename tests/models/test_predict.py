import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseg_xai.models.predict import from_nnx


class Wrapped(nnx.Module):
    """A model that calls its layers as Flax's transforms would have it."""

    def __init__(self, wrap):
        self.wrap, self.conv = wrap, nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.wrap(lambda conv, x: conv(x))(self.conv, x)


@pytest.mark.parametrize("wrap", [nnx.remat, nnx.jit])
def test_models_that_use_transforms_of_flax_have_gradients(wrap):
    image = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5, 1)), jnp.float32)

    def gradient(wrap):
        predict, variables = from_nnx(Wrapped(wrap))
        return jax.grad(lambda image: jnp.var(predict(variables, image[None])))(image)

    np.testing.assert_allclose(gradient(wrap), gradient(lambda f: f), atol=1e-6)
