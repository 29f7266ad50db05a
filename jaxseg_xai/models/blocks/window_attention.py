"""Attention inside windows (Swin Transformer, Liu et al., 2021, arXiv 2103.14030)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseg_xai.models.blocks.mlp import MLP
from jaxseg_xai.models.norms import layer_norm

#: Added to the scores of pixels that the shift has brought together.
_APART = -100.0


class WindowAttention(nnx.Module):
    """Every pixel attends to those of its window.

    Attributes:
      relative_position_bias_table: added to scores, [(2 window - 1)**2, heads], a row for every
        offset between two pixels of a window.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int, rngs: nnx.Rngs) -> None:
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv = nnx.Linear(dim, 3 * dim, rngs=rngs)
        self.proj = nnx.Linear(dim, dim, rngs=rngs)
        table = 0.02 * jax.random.normal(rngs.params(), ((2 * window - 1) ** 2, heads))
        self.relative_position_bias_table = nnx.Param(table)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]; both sides are multiples of the window."""
        b, height, width, dim = x.shape
        n, shift, inner = self.window, self.shift, dim // self.heads
        grid = (height // n, width // n)
        x = jnp.roll(x, (-shift, -shift), (1, 2)) if shift else x
        # [3, B, rows of windows, columns of them, heads, pixels, inner]
        qkv = self.qkv(x).reshape(b, grid[0], n, grid[1], n, 3, self.heads, inner)
        qkv = qkv.transpose(5, 0, 1, 3, 6, 2, 4, 7)
        q, k, v = qkv.reshape(3, b, *grid, self.heads, n * n, inner)
        scores = jnp.einsum("byxhqd,byxhkd->byxhqk", q / math.sqrt(inner), k) + self._bias()
        if shift:
            apart = _APART * (_parts(height, n, shift, 0) | _parts(width, n, shift, 1))
            scores += apart[:, :, None].astype(scores.dtype)
        mixed = jnp.einsum("byxhqk,byxhkd->byxhqd", jax.nn.softmax(scores, axis=-1), v)
        mixed = mixed.reshape(b, *grid, self.heads, n, n, inner).transpose(0, 1, 4, 2, 5, 3, 6)
        y = self.proj(mixed.reshape(x.shape))
        return jnp.roll(y, (shift, shift), (1, 2)) if shift else y

    def _bias(self) -> jax.Array:
        """[heads, pixels, pixels]: what the table has for the offset from key to query."""
        place = np.stack(np.divmod(np.arange(self.window**2), self.window))
        offset = place[:, :, None] - place[:, None] + self.window - 1
        rows = offset[0] * (2 * self.window - 1) + offset[1]
        return jnp.moveaxis(self.relative_position_bias_table[...][rows], -1, 0)


def _parts(size: int, window: int, shift: int, axis: int) -> np.ndarray:
    """Whether two pixels of a window were apart along an axis before the shift.

    Returns:
      bool [size / window, 1, pixels, pixels], or [1, size / window, pixels, pixels] of axis 1.
    """
    moved = (np.arange(size) >= size - shift).reshape(-1, window)
    pixels = np.broadcast_to(np.expand_dims(moved, 2 - axis), (len(moved), window, window)).reshape(
        len(moved), -1
    )
    return np.expand_dims(pixels[:, :, None] != pixels[:, None], 1 - axis)


class SwinBlock(nnx.Module):
    """Attention inside windows and feed-forward, each normalised before and added."""

    def __init__(
        self,
        dim: int,
        heads: int,
        side: int,
        rngs: nnx.Rngs,
        *,
        window: int,
        shifted: bool,
        mlp_ratio: float,
    ) -> None:
        # An image of one window has no other that a shift could reach.
        shift = window // 2 if shifted and side > window else 0
        self.norm1 = layer_norm(dim, rngs)
        self.attn = WindowAttention(dim, heads, min(window, side), shift, rngs)
        self.norm2 = layer_norm(dim, rngs)
        self.mlp = MLP(dim, int(dim * mlp_ratio), rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, side, side, dim] -> the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))
