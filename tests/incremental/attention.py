"""Layers that mix positions: attention, and means of the whole image."""

import jax.numpy as jnp
from flax import nnx

from tests.incremental.layers import C, kernel


def squeeze_excite(rng):
    def apply(w, x):
        return x * nnx.sigmoid(x.mean(axis=(1, 2), keepdims=True) @ w)

    return kernel(rng, C, C), apply


def squeeze_excite_pooled(rng):
    def apply(w, x):
        return x * nnx.sigmoid(nnx.avg_pool(x, x.shape[1:3]) @ w)

    return kernel(rng, C, C), apply


def attend(w, tokens):
    """Softmax attention over the second last axis of [..., N, C]."""
    q, k, v = (tokens @ w[i] for i in range(3))
    scores = nnx.softmax(jnp.einsum("...nc,...mc->...nm", q, k))
    return jnp.einsum("...nm,...mc->...nc", scores, v)


def attention(rng):
    def apply(w, x):
        b, h, width, c = x.shape
        return x + attend(w, x.reshape(b, h * width, c)).reshape(x.shape)

    return kernel(rng, 3, C, C), apply


def attention_nchw(rng):
    def apply(w, x):
        x = x.transpose(0, 3, 1, 2)
        b, c, *_ = x.shape
        x = x + attend(w, x.reshape(b, c, -1).swapaxes(1, 2)).swapaxes(1, 2).reshape(x.shape)
        return x.transpose(0, 2, 3, 1)

    return kernel(rng, 3, C, C), apply


def _in_windows(x, side, merged):
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 2, 4, 5)
    lead = (-1,) if merged else x.shape[:3]
    return x.reshape(*lead, side * side, c)


def _back(x, shape, side):
    b, h, w, c = shape
    x = x.reshape(b, h // side, w // side, side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(shape)


def window_attention(*, merged, side=2, roll=0):
    """Swin merges windows into the batch; `merged=False` keeps them apart."""

    def make(rng):
        def apply(w, x):
            shifted = jnp.roll(x, (-roll, -roll), (1, 2)) if roll else x
            found = attend(w, _in_windows(shifted, side, merged))
            found = _back(found, x.shape, side)
            return x + (jnp.roll(found, (roll, roll), (1, 2)) if roll else found)

        return kernel(rng, 3, C, C), apply

    return make


def attention_of_voxels(rng):
    def apply(w, x):
        tokens = x.reshape(len(x), -1, x.shape[-1])
        return x + attend(w, tokens).reshape(x.shape)

    return kernel(rng, 3, C, C), apply
