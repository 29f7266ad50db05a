"""Adam with a bias correction that float32 does not spoil."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AdamState(NamedTuple):
    """Number of steps, int32 [], and the two moments, shaped as the parameters."""

    steps: jax.Array
    first: optax.Updates
    second: optax.Updates


def scale_by_adam(
    decay_first: float = 0.9, decay_second: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    """As `optax.scale_by_adam`, with 1 - decay^t computed as -expm1(t log decay).

    In float32 the difference 1 - 0.999^t has a relative error of about 1e-5 (a test compares it
    with float64). The first steps move every parameter by the learning rate, whatever its gradient;
    where all pixels of a mask do so, that error grows to more than 1e-3 of the loss.

    References:
      Kingma and Ba, arXiv 1412.6980, algorithm 1.
    """

    def init(params: optax.Params) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.int32(0), zeros, zeros)

    def corrected(moments: optax.Updates, decay: float, count: jax.Array) -> optax.Updates:
        bias = -jnp.expm1(count.astype(jnp.float32) * math.log(decay))
        return jax.tree.map(lambda moment: moment / bias.astype(moment.dtype), moments)

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **_: Any
    ) -> tuple[optax.Updates, AdamState]:
        del params
        count = state.steps + 1
        first = optax.tree.update_moment(updates, state.first, decay_first, 1)
        second = optax.tree.update_moment(updates, state.second, decay_second, 2)
        scaled = jax.tree.map(
            lambda m, v: m / (jnp.sqrt(v) + eps),
            corrected(first, decay_first, count),
            corrected(second, decay_second, count),
        )
        return scaled, AdamState(count, first, second)

    return optax.GradientTransformation(init, update)
