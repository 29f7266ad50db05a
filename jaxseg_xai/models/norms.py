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
    """As its base, by `normalise_groups`."""

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """[B, *S, channels] -> the same shape and type; computed in float32 at least."""
        assert mask is None
        found = normalise_groups(x, self.num_groups, self.epsilon)
        if self.scale is not None:
            found *= self.scale[...]
        if self.bias is not None:
            found += self.bias[...]
        return found.astype(x.dtype)


def normalise_groups(x: jax.Array, num_groups: int, epsilon: float) -> jax.Array:
    """Group normalisation of [B, *S, C] without scale and bias, in float32 at least.

    Exact to the last digits, where XLA would add up a whole image or volume number by number: the
    mean of one axis is taken after that of another, and the variance from the distances to the
    mean. What follows can enlarge an error: the LayerNorm of a pixel that is almost zero.

    Args:
      x: images or volumes.
      num_groups: of the channels; as many as there are channels is instance normalisation.
      epsilon: added to the variance.
    """
    exact = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    groups = exact.reshape(*x.shape[:-1], num_groups, -1)
    distance = groups - _mean_of_groups(groups)
    groups = distance * lax.rsqrt(_mean_of_groups(distance**2) + epsilon)
    return groups.reshape(x.shape)


def _mean_of_groups(groups: jax.Array) -> jax.Array:
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
