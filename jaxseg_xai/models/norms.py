"""The normalisations between which families let choose."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

Norm = Literal["batch", "group", "instance", "none"]


class GroupNorm(nnx.GroupNorm):
    """As its base, to the last digits: XLA adds up a whole image or volume number by number.

    Here the mean of one axis is taken after that of another, and the variance from the distances
    to the mean. What follows can enlarge an error: the LayerNorm of a pixel that is almost zero.
    """

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """[B, *S, channels] -> the same shape and type; computed in float32 at least."""
        assert mask is None
        exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        groups = exact.reshape(*x.shape[:-1], self.num_groups, -1)
        distance = groups - mean_of_groups(groups)
        groups = distance * lax.rsqrt(mean_of_groups(distance**2) + self.epsilon)
        found = groups.reshape(x.shape)
        if self.scale is not None:
            found *= self.scale[...]
        if self.bias is not None:
            found += self.bias[...]
        return found.astype(x.dtype)


def mean_of_groups(groups: jax.Array) -> jax.Array:
    """Of [B, *S, G, C / G] over S and the channels of a group."""
    for axis in (*range(1, groups.ndim - 2), groups.ndim - 1):
        groups = jnp.mean(groups, axis=axis, keepdims=True)
    return groups


def norm_layer(
    kind: Norm, channels: int, rngs: nnx.Rngs, *, num_groups: int = 8, epsilon: float = 1e-5
) -> Callable[[jax.Array], jax.Array]:
    """A layer [B, *S, channels] -> the same shape.

    Args:
      kind: "batch", "group", "instance" or "none" (returns its input).
      channels: of its input.
      rngs: of the initial weights.
      num_groups: groups of "group" (fewer where they do not divide the channels).
      epsilon: added to the variance; the default is PyTorch's.
    """
    match kind:
        case "batch":
            return nnx.BatchNorm(channels, momentum=0.9, epsilon=epsilon, rngs=rngs)
        case "group":
            groups = math.gcd(num_groups, channels)
            return GroupNorm(channels, num_groups=groups, epsilon=epsilon, rngs=rngs)
        case "instance":
            return GroupNorm(channels, num_groups=channels, epsilon=epsilon, rngs=rngs)
        case _:
            return _identity


def layer_norm(channels: int, rngs: nnx.Rngs, *, epsilon: float = 1e-5) -> nnx.LayerNorm:
    """A normalisation of every token by itself.

    Its variance is taken about the mean, as in PyTorch; that of squares is less exact.
    """
    return nnx.LayerNorm(channels, epsilon=epsilon, use_fast_variance=False, rngs=rngs)


def _identity(x: jax.Array) -> jax.Array:
    return x
