"""Gradients integrated along a straight path, by Gauss-Legendre quadrature."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def mean_gradient(
    gradient: Callable[[jax.Array], jax.Array], start: jax.Array, step: jax.Array, num_nodes: int
) -> jax.Array:
    """Integral over s in [0, 1] of the gradient at start + s * step.

    Exact where the gradient is a polynomial in s of degree at most 2 num_nodes - 1. The kinks of
    ReLUs make it converge as slowly as any other rule. The nodes are evaluated one after the other.

    Args:
      gradient: point -> gradient there, of the same shape.
      start: where the path begins, any shape.
      step: from the start of the path to its end, of the same shape.
      num_nodes: how often the gradient is evaluated, at least 1.

    Returns:
      The mean gradient, of the shape of `start`.
    """
    nodes, weights = np.polynomial.legendre.leggauss(num_nodes)  # on [-1, 1]

    def add(total: jax.Array, node: jax.Array) -> tuple[jax.Array, None]:
        s, weight = node
        return total + weight * gradient(start + s * step), None

    points = jnp.array(np.stack([(nodes + 1) / 2, weights / 2], axis=1), start.dtype)
    return lax.scan(add, jnp.zeros_like(start), points)[0]
