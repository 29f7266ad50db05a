"""Patches as features: a strided convolution and a LayerNorm."""

import jax
from flax import nnx

from jaxseg_xai.models.blocks.convolution import conv


class PatchEmbed(nnx.Module):
    """A strided convolution and a LayerNorm; where patches overlap, zeros are around the image."""

    def __init__(
        self, n_in: int, n_out: int, rngs: nnx.Rngs, *, size: int = 3, stride: int = 2
    ) -> None:
        padding = (size - 1) // 2 if size > stride else 0
        self.proj = conv(n_in, n_out, size, rngs, stride=stride, padding=padding)
        self.norm = nnx.LayerNorm(n_out, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, ceil(H / stride), ceil(W / stride), n_out]."""
        return self.norm(self.proj(x))
