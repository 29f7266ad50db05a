"""Attention inside windows is attention of all pixels that leaves the others out."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxseg_xai.models.blocks.window_attention import WindowAttention

SIDE, WINDOW, HEADS, DIM = 8, 4, 2, 4


@pytest.mark.parametrize("shift", [0, 2])
def test_pixels_attend_to_those_of_their_window_by_content_and_offset(shift):
    attention = WindowAttention(DIM, HEADS, WINDOW, shift, nnx.Rngs(0))
    table = np.random.default_rng(0).normal(size=((2 * WINDOW - 1) ** 2, HEADS))
    attention.relative_position_bias_table.set_value(table.astype(np.float32))
    x = jax.random.normal(jax.random.key(0), (1, SIDE, SIDE, DIM))
    qkv = np.asarray(attention.qkv(x)).reshape(SIDE**2, 3, HEADS, DIM // HEADS)
    q, k, v = qkv.transpose(1, 2, 0, 3)
    place = np.stack(np.divmod(np.arange(SIDE**2), SIDE))
    # Windows at the border are cut in two by the shift.
    window = (place - shift) // WINDOW
    together = (window[:, :, None] == window[:, None]).all(axis=0)
    offset = np.clip(place[:, :, None] - place[:, None] + WINDOW - 1, 0, 2 * WINDOW - 2)
    bias = table[offset[0] * (2 * WINDOW - 1) + offset[1]].transpose(2, 0, 1)
    scores = q @ k.swapaxes(1, 2) / np.sqrt(DIM // HEADS) + bias
    weights = np.exp(scores) * together
    mixed = weights / weights.sum(axis=-1, keepdims=True) @ v
    expected = attention.proj(mixed.transpose(1, 0, 2).reshape(1, SIDE, SIDE, DIM))
    np.testing.assert_allclose(attention(x), expected, atol=1e-5)
