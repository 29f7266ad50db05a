"""ResNet with standardised weights and group normalisation, as vision transformers have below them.

That of Kolesnikov et al., 2019 (arXiv 1912.11370, section 3), but normalised after a convolution.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.models.blocks.convolution import conv, identity
from jaxseg_xai.models.norms import GroupNorm
from jaxseg_xai.ops import layers


def _conv_standardised(x: jax.Array, kernel: jax.Array, *args: Any, **options: Any) -> jax.Array:
    """A convolution whose kernel has mean 0 and variance 1 for every output channel."""
    axes = tuple(range(kernel.ndim - 1))
    kernel = kernel - jnp.mean(kernel, axes, keepdims=True)
    kernel = kernel / jnp.sqrt(jnp.mean(kernel**2, axes, keepdims=True) + 1e-5)
    return layers.conv_general_dilated(x, kernel, *args, **options)


_conv = functools.partial(conv, use_bias=False, conv_general_dilated=_conv_standardised)


def _group_norm(channels: int, num_groups: int, rngs: nnx.Rngs, epsilon: float = 1e-6) -> GroupNorm:
    return GroupNorm(channels, num_groups=num_groups, epsilon=epsilon, rngs=rngs)


class Root(nnx.Module):
    """First convolution, of stride 2."""

    def __init__(self, n_in: int, width: int, num_groups: int, rngs: nnx.Rngs) -> None:
        self.conv = _conv(n_in, width, 7, rngs, stride=2)
        self.gn = _group_norm(width, num_groups, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, ceil(H / 2), ceil(W / 2), width]."""
        return nnx.relu(self.gn(self.conv(x)))


class Unit(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions, added to the input or to a 1x1 convolution of it."""

    def __init__(
        self, n_in: int, width: int, n_out: int, stride: int, num_groups: int, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = _conv(n_in, width, 1, rngs)
        self.gn1 = _group_norm(width, num_groups, rngs)
        self.conv2 = _conv(width, width, 3, rngs, stride=stride)
        self.gn2 = _group_norm(width, num_groups, rngs)
        self.conv3 = _conv(width, n_out, 1, rngs)
        self.gn3 = _group_norm(n_out, num_groups, rngs)
        same = stride == 1 and n_in == n_out
        self.downsample = identity if same else _conv(n_in, n_out, 1, rngs, stride=stride)
        # Every channel by itself.
        self.gn_proj = identity if same else _group_norm(n_out, n_out, rngs, 1e-5)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, ceil(H / stride), ceil(W / stride), n_out]."""
        y = nnx.relu(self.gn1(self.conv1(x)))
        y = nnx.relu(self.gn2(self.conv2(y)))
        return nnx.relu(self.gn3(self.conv3(y)) + self.gn_proj(self.downsample(x)))


class ResNetV2(nnx.Module):
    """Features of 1/2, 1/4, .. of the image's size; a block has twice the channels of the last."""

    def __init__(
        self, in_channels: int, width: int, depths: Sequence[int], num_groups: int, rngs: nnx.Rngs
    ) -> None:
        self.root = Root(in_channels, width, num_groups, rngs)
        blocks, n_in = [], width
        for i, depth in enumerate(depths):
            inner, n_out = width * 2**i, 4 * width * 2**i
            units = []
            for j in range(depth):
                stride = 2 if i and not j else 1
                units.append(Unit(n_in, inner, n_out, stride, num_groups, rngs))
                n_in = n_out
            blocks.append(nnx.List(units))
        self.blocks = nnx.List(blocks)

    def __call__(self, x: jax.Array) -> list[jax.Array]:
        """Images [B, H, W, C] -> what the root and every block make of them, finest first.

        The first block is a pixel smaller than 1/4, since its pooling is not padded.
        """
        found = [self.root(x)]
        x = layers.max_pool(found[0], 3, stride=2)
        for block in self.blocks:
            for unit in block:
                x = unit(x)
            found.append(x)
        return found
