"""Attention inside windows (Swin Transformer, Liu et al., 2021, arXiv 2103.14030)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseg_xai.models.blocks.mlp import MLP
from jaxseg_xai.models.norms import layer_norm


class WindowAttention(nnx.Module):
    """Every pixel attends to those of its window.

    Attributes:
      shift: by how many pixels the windows start later than the image.
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
        size, n, inner = x.shape[1:3], self.window, x.shape[-1] // self.heads
        # Rolling the image round, as others do, would tie each border to the one opposite: what
        # a block changes there would reach all of the image. Windows that stand over do not.
        before, after = (n - self.shift, self.shift) if self.shift else (0, 0)
        border = [(0, 0), (before, after), (before, after), (0, 0)]
        grid = tuple((side + before + after) // n for side in size)
        # [3, B, rows of windows, columns of them, heads, pixels, inner]
        qkv = jnp.pad(self.qkv(x), border).reshape(-1, grid[0], n, grid[1], n, 3, self.heads, inner)
        qkv = qkv.transpose(5, 0, 1, 3, 6, 2, 4, 7)
        q, k, v = qkv.reshape(*qkv.shape[:5], n * n, inner)
        scores = jnp.einsum("byxhqd,byxhkd->byxhqk", q / math.sqrt(inner), k) + self._bias()
        if self.shift:
            inside = np.pad(np.ones(size, bool), border[1:3])
            inside = inside.reshape(grid[0], n, grid[1], n).transpose(0, 2, 1, 3)
            keys = inside.reshape(*grid, 1, 1, n * n)
            scores += np.where(keys, 0, -np.inf).astype(scores.dtype)
        mixed = jnp.einsum("byxhqk,byxhkd->byxhqd", jax.nn.softmax(scores, axis=-1), v)
        mixed = mixed.reshape(-1, *grid, self.heads, n, n, inner).transpose(0, 1, 4, 2, 5, 3, 6)
        mixed = mixed.reshape(-1, grid[0] * n, grid[1] * n, x.shape[-1])
        inner_part = mixed[:, before : before + size[0], before : before + size[1]]
        return self.proj(inner_part)

    def _bias(self) -> jax.Array:
        """[heads, pixels, pixels]: what the table has for the offset from key to query."""
        place = np.stack(np.divmod(np.arange(self.window**2), self.window))
        offset = place[:, :, None] - place[:, None] + self.window - 1
        rows = offset[0] * (2 * self.window - 1) + offset[1]
        return jnp.moveaxis(self.relative_position_bias_table[...][rows], -1, 0)


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
