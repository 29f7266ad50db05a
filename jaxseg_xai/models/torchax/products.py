"""PyTorch's matrix products."""

import math

import jax
import jax.numpy as jnp

from jaxseg_xai.ops import products


def matmul(input: jax.Array, other: jax.Array) -> jax.Array:
    """`torch.matmul`, whose arguments have these names."""
    return products.matmul(input, other)


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
    scores = products.matmul(query * factor, jnp.swapaxes(key, -2, -1))
    if is_causal:
        attn_mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if attn_mask is not None and attn_mask.dtype == bool:
        scores = jnp.where(attn_mask, scores, -jnp.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return products.matmul(jax.nn.softmax(scores, axis=-1), value)
