"""PyTorch's matrix products, in one form for any number of images.

`jnp.matmul` drops dimensions of size 1, PyTorch joins the batch with the heads of an attention:
`jaxseg_xai.incremental` compares traces for one image and for several, and needs the batch apart.
"""

import math

import jax
import jax.numpy as jnp


def matmul(input: jax.Array, other: jax.Array) -> jax.Array:
    """`torch.matmul`."""
    if min(input.ndim, other.ndim) < 3:
        return jnp.matmul(input, other)
    batch = jnp.broadcast_shapes(input.shape[:-2], other.shape[:-2])
    a, b = (jnp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (input, other))
    every = tuple(range(len(batch)))
    return jax.lax.dot_general(a, b, (((a.ndim - 1,), (b.ndim - 2,)), (every, every)))


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    attn_mask: jax.Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> jax.Array:
    """`torch.nn.functional.scaled_dot_product_attention` without dropout."""
    del dropout_p
    if enable_gqa:
        times = query.shape[-3] // key.shape[-3]
        key, value = (jnp.repeat(x, times, axis=-3) for x in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = matmul(query * factor, jnp.swapaxes(key, -2, -1))
    if is_causal:
        attn_mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if attn_mask is not None and attn_mask.dtype == bool:
        scores = jnp.where(attn_mask, scores, -jnp.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return matmul(jax.nn.softmax(scores, axis=-1), value)
