"""Dice coefficients of hard and soft masks of one image or volume; `jax.vmap` them over many."""

import jax
import jax.numpy as jnp


def hard_dice(a: jax.Array, b: jax.Array) -> jax.Array:
    """Dice 2|a and b| / (|a| + |b|) of two binary masks; 0 where both are empty.

    Args:
      a: bool [*S].
      b: bool [*S].

    Returns:
      float32 [], in [0, 1].

    >>> float(hard_dice(jnp.array([[True, True]]), jnp.array([[True, False]])))
    0.6666666865348816
    """
    both = jnp.sum(a & b, dtype=jnp.float32)
    total = jnp.sum(a, dtype=jnp.float32) + jnp.sum(b, dtype=jnp.float32)
    return 2 * both / jnp.maximum(total, 1)


def soft_dice(probability: jax.Array, target: jax.Array) -> jax.Array:
    """Soft Dice 2 sum(p t) / (sum(p) + sum(t)); 0 where both are empty.

    Args:
      probability: float32 [*S] in [0, 1].
      target: float32 or bool [*S].

    Returns:
      float32 [], in [0, 1].
    """
    total = jnp.sum(probability) + jnp.sum(target)
    return 2 * jnp.sum(probability * target) / jnp.maximum(total, 1e-7)
