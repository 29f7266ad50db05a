import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg_xai.ops.adam import scale_by_adam


def adam_in_float64(gradients, eps=1e-8):
    first = second = 0.0
    for step, gradient in enumerate(np.asarray(gradients, np.float64), start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        yield first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + eps)


def relative_error(transform, gradients):
    state = transform.init(jnp.zeros(gradients.shape[1:]))
    errors = []
    for gradient, expected in zip(gradients, adam_in_float64(gradients), strict=True):
        update, state = transform.update(jnp.asarray(gradient), state)
        errors.append(np.abs(update / expected - 1).max())
    return max(errors)


def test_float32_steps_equal_float64_steps():
    gradients = np.random.default_rng(0).uniform(0.5, 2, (12, 6)).astype(np.float32)
    assert relative_error(scale_by_adam(), gradients) < 1e-6
    # The reason this exists; when optax gets as close, drop ours.
    assert relative_error(optax.scale_by_adam(), gradients) > 3e-6


def test_parameters_are_pytrees():
    transform = scale_by_adam()
    params = {"a": jnp.ones(2), "b": jnp.ones((1, 3))}
    update, state = transform.update(params, transform.init(params))
    assert update["b"].shape == (1, 3)
    assert int(state.steps) == 1
    assert update["a"] == pytest.approx(1.0, abs=1e-6)
