"""Matrix products in one form for any number of images.

`jnp.matmul` drops dimensions of size 1, others join the batch with the heads of an attention:
`jaxseg_xai.incremental` compares traces for one image and for several, and needs the batch apart.
"""

import jax
import jax.numpy as jnp
from jax import lax


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """As `jnp.matmul`: [*B, N, M], [*B, M, K] -> [*B, N, K], leading axes broadcast."""
    if min(a.ndim, b.ndim) < 2:
        return jnp.matmul(a, b)
    if b.ndim == 2:
        return lax.dot_general(a, b, (((a.ndim - 1,), (0,)), ((), ())))
    batch = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (jnp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
    every = tuple(range(len(batch)))
    return lax.dot_general(a, b, (((a.ndim - 1,), (b.ndim - 2,)), (every, every)))
