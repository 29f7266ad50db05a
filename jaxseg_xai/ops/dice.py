"""Dice coefficients of hard and soft masks."""

import jax
import jax.numpy as jnp


def hard_dice(a: jax.Array, b: jax.Array) -> jax.Array:
    """Dice 2|a and b| / (|a| + |b|) of two binary masks; 0 where both are empty.

    Args:
      a: bool [..., H, W].
      b: bool [..., H, W].

    Returns:
      float32 [...], in [0, 1].
    """
    both = jnp.sum(a & b, axis=(-2, -1), dtype=jnp.float32)
    total = jnp.sum(a, axis=(-2, -1), dtype=jnp.float32) + jnp.sum(
        b, axis=(-2, -1), dtype=jnp.float32
    )
    return 2 * both / jnp.maximum(total, 1)


def soft_dice(probability: jax.Array, target: jax.Array) -> jax.Array:
    """Soft Dice 2 sum(p t) / (sum(p) + sum(t)); 0 where both are empty.

    Args:
      probability: float32 [..., H, W] in [0, 1].
      target: float32 or bool [..., H, W].

    Returns:
      float32 [...], in [0, 1].
    """
    both = jnp.sum(probability * target, axis=(-2, -1))
    total = jnp.sum(probability, axis=(-2, -1)) + jnp.sum(target, axis=(-2, -1))
    return 2 * both / jnp.maximum(total, 1e-7)
