"""Pixels filled in from their neighbours, so that what was there can no longer be seen."""

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

#: Relative residual at which the solution stands, and the most steps to it.
_TOLERANCE, _MOST = 1e-6, 1000


def impute_linearly(image: jax.Array, missing: jax.Array) -> jax.Array:
    """Every missing pixel becomes the weighted mean of its neighbours, missing or not.

    Neighbours across a side weigh twice as much as those across a corner (in volumes a side 4, an
    edge 2, a corner 1); those outside the image do not count. The linear equations are solved by
    conjugate gradients.

    Args:
      image: float32 [*S, C].
      missing: bool [*S]; where all are, the result is 0.

    Returns:
      float32 [*S, C], equal to the image where nothing is missing.

    References:
      Rong et al., ROAD, arXiv 2202.00449, section 4.2.
    """
    gone = missing[..., None]
    known = jnp.where(gone, 0.0, image)
    weights = _around(jnp.ones((*missing.shape, 1)))

    def equations(values: jax.Array) -> jax.Array:
        """Symmetric and positive; the values are 0 where nothing is missing."""
        return jnp.where(gone, weights * values - _around(values), values)

    right = jnp.where(gone, _around(known), 0.0)
    found, _ = cg(equations, right, tol=_TOLERANCE, maxiter=_MOST)
    return jnp.where(gone, found, image)


def _around(values: jax.Array) -> jax.Array:
    """Weighted sum over the neighbours of [*S, C], 0 outside."""
    rank = values.ndim - 1
    # 2 at the centre and 1 beside it along each axis: 2^rank at the centre, which is no neighbour.
    total = values
    for axis in range(rank):
        pads = [(1, 1) if d == axis else (0, 0) for d in range(values.ndim)]
        padded = jnp.pad(total, pads)
        before, here, after = (
            jax.lax.slice_in_dim(padded, start, start + values.shape[axis], axis=axis)
            for start in range(3)
        )
        total = before + 2 * here + after
    return total - 2**rank * values
