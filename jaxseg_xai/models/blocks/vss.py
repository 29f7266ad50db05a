"""Stages of visual state space models: VM-UNet and MCURE have the same encoder."""

from collections.abc import Sequence

import jax
from flax import nnx

from jaxseg_xai.models.blocks.patch_embed import PatchEmbed
from jaxseg_xai.models.blocks.patches import PatchMerge
from jaxseg_xai.models.blocks.selective_scan import FourScans
from jaxseg_xai.models.norms import layer_norm

#: Pixels along each axis of a patch.
PATCH = 4


class Block(nnx.Module):
    """Four scans, normalised before and added."""

    def __init__(self, dim: int, num_states: int, rngs: nnx.Rngs) -> None:
        self.ln_1 = layer_norm(dim, rngs)
        self.self_attention = FourScans(dim, rngs, num_states=num_states)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        return x + self.self_attention(self.ln_1(x))


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
        self.patch_embed = PatchEmbed(n_in, dim, rngs, size=PATCH, stride=PATCH)
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
