"""Stages of visual state space models: VM-UNet and MCURE have the same encoder."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.models.blocks.selective_scan import FourScans
from jaxseg_xai.ops import layers

PATCH = 4


def norm(channels: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A LayerNorm over the channels, epsilon 1e-5."""
    return nnx.LayerNorm(channels, epsilon=1e-5, rngs=rngs)


class PatchEmbed(nnx.Module):
    """Patches of 4 x 4 pixels as features."""

    def __init__(self, n_in: int, n_out: int, rngs: nnx.Rngs) -> None:
        self.proj = nnx.Conv(
            n_in,
            n_out,
            (PATCH, PATCH),
            strides=PATCH,
            padding="VALID",
            conv_general_dilated=layers.conv_general_dilated,
            rngs=rngs,
        )
        self.norm = norm(n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H / 4, W / 4, n_out]."""
        return self.norm(self.proj(x))


class Block(nnx.Module):
    """Four scans, normalised before and added."""

    def __init__(self, dim: int, num_states: int, rngs: nnx.Rngs) -> None:
        self.ln_1 = norm(dim, rngs)
        self.self_attention = FourScans(dim, rngs, num_states=num_states)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        return x + self.self_attention(self.ln_1(x))


class PatchMerge(nnx.Module):
    """Four neighbours become one token of twice the channels."""

    def __init__(self, dim: int, rngs: nnx.Rngs) -> None:
        self.norm = norm(4 * dim, rngs)
        self.reduction = nnx.Linear(4 * dim, 2 * dim, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H / 2, W / 2, 2 dim]."""
        quarters = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(jnp.concatenate(quarters, axis=-1)))


class PatchExpand(nnx.Module):
    """One token becomes factor x factor, each of fewer channels."""

    def __init__(self, dim: int, n_out: int, factor: int, rngs: nnx.Rngs) -> None:
        self.factor = factor
        self.expand = nnx.Linear(dim, n_out * factor**2, use_bias=False, rngs=rngs)
        self.norm = norm(n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, factor H, factor W, n_out]."""
        b, h, w, _ = x.shape
        x = self.expand(x).reshape(b, h, w, self.factor, self.factor, -1).swapaxes(2, 3)
        return self.norm(x.reshape(b, h * self.factor, w * self.factor, -1))


class Stage(nnx.Module):
    """Blocks of one resolution, and the way to the next coarser one."""

    def __init__(self, dim: int, depth: int, num_states: int, last: bool, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([Block(dim, num_states, rngs) for _ in range(depth)])
        self.downsample = None if last else PatchMerge(dim, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        for block in self.blocks:
            x = block(x)
        return x


class Encoder(nnx.Module):
    """Patches, then stages of half the resolution and twice the channels of the one before."""

    def __init__(
        self, n_in: int, dim: int, depths: Sequence[int], num_states: int, rngs: nnx.Rngs
    ) -> None:
        self.patch_embed = PatchEmbed(n_in, dim, rngs)
        last = len(depths) - 1
        self.layers = nnx.List(
            [
                Stage(dim * 2**i, depth, num_states, i == last, rngs)
                for i, depth in enumerate(depths)
            ]
        )

    def __call__(self, x: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
        """Images [B, H, W, n_in] -> inputs of the stages, and what comes out of their blocks."""
        x, inputs, outputs = self.patch_embed(x), [], []
        for stage in self.layers:
            inputs.append(x)
            outputs.append(stage(x))
            x = outputs[-1] if stage.downsample is None else stage.downsample(outputs[-1])
        return inputs, outputs
