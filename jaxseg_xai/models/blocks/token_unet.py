"""A U-Net whose coarsest levels work on tokens: what UNeXt and U-KAN have in common."""

import dataclasses
import itertools
from collections.abc import Callable

import jax
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.convolution import conv
from jaxseg_xai.models.blocks.patch_embed import PatchEmbed
from jaxseg_xai.ops import layers

Layer = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenUNetConfig(Architecture):
    """Shape of the net; the defaults are PdCR's.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      encoder_channels: width of every level of convolutions, finest first.
      token_channels: width of every level of tokens, which follow; each level halves the sides.
      depths: blocks of every level of tokens, on the way down and (in this order) on the way up.
    """

    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    encoder_channels: tuple[int, ...] = setting((16, 32, 128), at_least=1)
    token_channels: tuple[int, ...] = setting((160, 256), at_least=1)
    depths: tuple[int, ...] = setting((1, 1), at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where the levels do not match."""
        if not self.encoder_channels or not self.token_channels:
            raise ConfigError("encoder_channels and token_channels need one entry at least")
        if len(self.depths) != len(self.token_channels):
            raise ConfigError(
                f"depths has {len(self.depths)} entries, token_channels "
                f"{len(self.token_channels)}; give one per level"
            )

    def input_spec(self) -> InputSpec:
        """Images whose sides every level can halve."""
        levels = len(self.encoder_channels) + len(self.token_channels)
        return InputSpec(channels=self.in_channels, multiple_of=2**levels)

    def sites(self) -> Sites:
        """The convolution that makes the coarsest tokens."""
        return Sites(cam_layer=f"embed/{len(self.token_channels) - 1}/proj")

    def torch_names(self) -> dict[str, str]:
        """Modules of the published code of both -> ours."""
        ours, levels = {}, len(self.encoder_channels)
        for i in range(len(self.token_channels)):
            ours |= {
                f"patch_embed{levels + i}": f"embed/{i}",
                f"block{i + 1}": f"blocks/{i}",
                f"norm{levels + i}": f"norms/{i}",
                f"dblock{i + 1}": f"decoder_blocks/{i}",
                f"dnorm{levels + i}": f"decoder_norms/{i}",
            }
        return ours


class TokenUNet(nnx.Module):
    """The net; see `TokenUNetConfig`.

    Args:
      config: its shape.
      rngs: of the initial weights.
      down: makes the convolutions of a level from channels in and out.
      up: the same on the way up; of the last level `last` is true.
      block: makes a block of tokens, [B, H, W, C] -> the same, from C.
    """

    def __init__(
        self,
        config: TokenUNetConfig,
        rngs: nnx.Rngs,
        *,
        down: Callable[[int, int], Layer],
        up: Callable[[int, int, bool], Layer],
        block: Callable[[int], Layer],
    ) -> None:
        widths = (config.in_channels, *config.encoder_channels, *config.token_channels)
        pairs = list(itertools.pairwise(widths))
        levels = len(config.encoder_channels)
        # Upwards the finest level ends with the width that it begins with.
        above = [pair[0] for pair in pairs[:0:-1]]

        def token_level(dim: int, depth: int) -> nnx.List:
            return nnx.List([block(dim) for _ in range(depth)])

        def norm(dim: int) -> nnx.LayerNorm:
            return nnx.LayerNorm(dim, epsilon=1e-5, rngs=rngs)

        self.encoder = nnx.List([down(a, b) for a, b in pairs[:levels]])
        self.embed = nnx.List([PatchEmbed(a, b, rngs) for a, b in pairs[levels:]])
        tokens = list(zip(config.token_channels, config.depths, strict=True))
        self.blocks = nnx.List([token_level(*level) for level in tokens])
        self.norms = nnx.List([norm(dim) for dim in config.token_channels])
        self.decoder = nnx.List(
            [up(b, a, False) for a, b in pairs[:0:-1]] + [up(widths[1], widths[1], True)]
        )
        finer = list(zip(above, config.depths, strict=False))
        self.decoder_blocks = nnx.List([token_level(*level) for level in finer])
        self.decoder_norms = nnx.List([norm(dim) for dim, _ in finer])
        self.final = conv(widths[1], config.num_logits, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]; H, W as `input_spec` says."""
        skips = []
        for layer in self.encoder:
            x = nnx.relu(layers.max_pool_2(layer(x)))
            skips.append(x)
        for embed, blocks, norm in zip(self.embed, self.blocks, self.norms, strict=True):
            x = _run(blocks, norm, embed(x))
            skips.append(x)
        skips.pop()
        for i, layer in enumerate(self.decoder):
            x = layer(x)
            x = nnx.relu(layers.resize_linear(x, [2 * n for n in x.shape[1:3]]))
            if skips:
                x = x + skips.pop()
            if i < len(self.decoder_blocks):
                x = _run(self.decoder_blocks[i], self.decoder_norms[i], x)
        return self.final(x)


def _run(blocks: nnx.List, norm: nnx.LayerNorm, x: jax.Array) -> jax.Array:
    for block in blocks:
        x = block(x)
    return norm(x)
