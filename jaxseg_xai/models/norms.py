"""The normalisations between which families let choose."""

import math
from collections.abc import Callable
from typing import Literal

import jax
from flax import nnx

Norm = Literal["batch", "group", "instance", "none"]


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
            return nnx.GroupNorm(channels, num_groups=groups, epsilon=epsilon, rngs=rngs)
        case "instance":
            return nnx.InstanceNorm(channels, epsilon=epsilon, rngs=rngs)
        case _:
            return _identity


def layer_norm(channels: int, rngs: nnx.Rngs, *, epsilon: float = 1e-5) -> nnx.LayerNorm:
    """A normalisation of every token by itself.

    Its variance is taken about the mean, as in PyTorch; that of squares is less exact.
    """
    return nnx.LayerNorm(channels, epsilon=epsilon, use_fast_variance=False, rngs=rngs)


def _identity(x: jax.Array) -> jax.Array:
    return x
