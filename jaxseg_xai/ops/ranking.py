"""Orders of the values of a map: ranks, their correlation, and the largest values."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.types import Array


def ranks(values: jax.Array) -> jax.Array:
    """Ranks float32 [N] of values [N], counted from 1; equal values share their mean rank.

    >>> ranks(jnp.array([3.0, 1.0, 3.0, 2.0])).tolist()
    [3.5, 1.0, 3.5, 2.0]
    """
    ascending = jnp.sort(values)
    below = jnp.searchsorted(ascending, values, side="left", method="sort")
    up_to = jnp.searchsorted(ascending, values, side="right", method="sort")
    return (below + up_to + 1).astype(jnp.float32) / 2


def rank_correlations(maps: jax.Array, own: Array | bool = True) -> jax.Array:
    """Spearman's correlation of every two of n maps.

    Args:
      maps: float32 [n, *S].
      own: bool [*S], the pixels that count.

    Returns:
      float32 [n, n] in [-1, 1]; NaN where a map has one value everywhere.
    """
    counts = jnp.broadcast_to(own, maps.shape[1:]).ravel()
    number = jnp.maximum(jnp.sum(counts), 1).astype(jnp.float32)
    # What does not count comes last, and moves no rank of what does.
    orders = jax.vmap(lambda x: ranks(jnp.where(counts, x.ravel(), jnp.inf)))(maps)
    # Ranks of n values have the mean (n + 1) / 2, however many are equal.
    centred = jnp.where(counts, (orders - (number + 1) / 2) / number, 0.0)
    together = jnp.matmul(centred, centred.T, precision=lax.Precision.HIGHEST)
    spread = jnp.diag(together)
    scale = jnp.sqrt(spread[:, None] * spread)
    found = together / jnp.where(scale > 0, scale, 1.0)
    return jnp.where(scale > 0, jnp.clip(found, -1.0, 1.0), jnp.nan)


def overlaps(regions: jax.Array) -> jax.Array:
    """Intersection over union of every two of n regions bool [n, *S]; 1 where both are empty.

    Returns:
      float32 [n, n] in [0, 1].
    """
    flat = regions.reshape(len(regions), -1).astype(jnp.float32)
    both = jnp.matmul(flat, flat.T, precision=lax.Precision.HIGHEST)
    areas = jnp.diag(both)
    either = areas[:, None] + areas - both
    return jnp.where(either > 0, both / jnp.maximum(either, 1.0), 1.0)


def mean_of_pairs(matrix: jax.Array) -> jax.Array:
    """Mean of a symmetric matrix [n, n] above its diagonal, n >= 2."""
    rows, columns = jnp.triu_indices(len(matrix), 1)
    return jnp.mean(matrix[rows, columns])
