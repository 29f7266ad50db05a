"""Swin-Unet (Cao et al., 2021, arXiv 2105.05537): a U-Net of attention inside windows."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.convolution import conv
from jaxseg_xai.models.blocks.patch_embed import PatchEmbed
from jaxseg_xai.models.blocks.patches import PatchExpand, PatchMerge
from jaxseg_xai.models.blocks.window_attention import SwinBlock
from jaxseg_xai.models.norms import layer_norm

#: Tables that the published code computes, and keeps beside the weights.
_COMPUTED = ("relative_position_index", "attn_mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwinUNetConfig(Architecture):
    """Shape of a Swin-Unet; the defaults are PdCR's.

    As in the published code, the decoder has as many blocks as the encoder (its configuration
    files say otherwise, but nothing reads that).

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      image_size: height and width of the image, to which the net is bound.
      patch_size: pixels along each axis that become one token.
      embed_dim: width of the finest stage; each further has twice as much, and half the size.
      depths: blocks of every stage; every second one has its windows shifted by half.
      num_heads: attention heads of every stage.
      window_size: tokens along each axis of a window, fewer where a stage has fewer.
      mlp_ratio: width of a block's hidden layer over that of the stage.
      absolute_positions: whether a learned vector is added to every token.

    References:
      Cao et al., arXiv 2105.05537, section 3; Liu et al., arXiv 2103.14030, section 3.2.
    """

    name: ClassVar[str] = "swinunet"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    image_size: int = setting(256, at_least=1)
    patch_size: int = setting(4, at_least=1)
    embed_dim: int = setting(96, at_least=1)
    depths: tuple[int, ...] = setting((2, 2, 2, 2), at_least=1)
    num_heads: tuple[int, ...] = setting((3, 6, 12, 24), at_least=1)
    window_size: int = setting(8, at_least=1)
    mlp_ratio: float = setting(4.0, above=0)
    absolute_positions: bool = False

    def check_together(self) -> None:
        """Raise `ConfigError` where the stages do not match, or do not fit the image."""
        if len(self.num_heads) != len(self.depths):
            raise ConfigError(
                f"num_heads has {len(self.num_heads)} entries, depths {len(self.depths)}; give one "
                "per stage"
            )
        if len(self.depths) < 2:
            raise ConfigError("depths has fewer than 2 entries; a U-Net has a coarser stage")
        coarsest = self.patch_size * 2 ** (len(self.depths) - 1)
        if self.image_size % coarsest:
            raise ConfigError(
                f"image_size is {self.image_size}; it must be a multiple of {coarsest}, a token of "
                "the coarsest stage"
            )
        for i, heads in enumerate(self.num_heads):
            if self.dim(i) % heads:
                raise ConfigError(
                    f"{heads} heads cannot share {self.dim(i)} channels; correct num_heads"
                )
            if self.side(i) > self.window_size and self.side(i) % self.window_size:
                raise ConfigError(
                    f"{self.side(i)} tokens of stage {i} are no multiple of window_size = "
                    f"{self.window_size}; choose another image_size"
                )

    def dim(self, stage: int) -> int:
        """Channels of a stage."""
        return self.embed_dim * 2**stage

    def side(self, stage: int) -> int:
        """Tokens along each axis of a stage."""
        return self.image_size // self.patch_size // 2**stage

    def build(self, rngs: nnx.Rngs) -> "SwinUNet":
        """The network, randomly initialised."""
        return SwinUNet(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images of one size."""
        return InputSpec(channels=self.in_channels, fixed_size=(self.image_size,) * 2)

    def sites(self) -> Sites:
        """The decoder's first layer: a linear map of the encoder's output."""
        return Sites(cam_layer="bottom/expand")

    def torch_names(self) -> dict[str, str]:
        """Modules of the published code -> ours."""
        ours = {
            "": "",
            "patch_embed": "embed",
            "patch_embed.proj": "embed/proj",
            "layers": "encoder",
            "norm": "norm",
            "layers_up.0": "bottom",
            "norm_up": "norm_up",
            "up": "up",
            "output": "head",
        }
        for i in range(1, len(self.depths)):
            ours |= {f"layers_up.{i}": f"decoder/{i - 1}"}
            ours |= {f"concat_back_dim.{i}": f"decoder/{i - 1}/join"}
        return {f"swin_unet.{theirs}".strip("."): name for theirs, name in ours.items()}

    def translate(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Tables that are computed go."""
        return {k: v for k, v in arrays.items() if not k.endswith(_COMPUTED)}


def _blocks(config: SwinUNetConfig, stage: int, rngs: nnx.Rngs) -> nnx.List:
    options = {"window": config.window_size, "mlp_ratio": config.mlp_ratio}
    size = (config.dim(stage), config.num_heads[stage], config.side(stage))
    depth = config.depths[stage]
    return nnx.List([SwinBlock(*size, rngs, shifted=j % 2 == 1, **options) for j in range(depth)])


class Encode(nnx.Module):
    """Blocks of a stage, then half of its size but in the last."""

    def __init__(self, config: SwinUNetConfig, stage: int, rngs: nnx.Rngs) -> None:
        self.blocks = _blocks(config, stage, rngs)
        last = stage == len(config.depths) - 1
        self.downsample = None if last else PatchMerge(config.dim(stage), rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, side, side, dim] -> that of the next stage, or of this one if it is the last."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class Decode(nnx.Module):
    """What came up joined with the encoder's, blocks, then twice the size but in the finest."""

    def __init__(self, config: SwinUNetConfig, stage: int, rngs: nnx.Rngs) -> None:
        dim = config.dim(stage)
        self.join = nnx.Linear(2 * dim, dim, rngs=rngs)
        self.blocks = _blocks(config, stage, rngs)
        self.upsample = PatchExpand(dim, dim // 2, 2, rngs) if stage else None

    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """Two of [B, side, side, dim] -> that of the finer stage, or of this if it is finest."""
        x = self.join(jnp.concatenate([x, skip], axis=-1))
        for block in self.blocks:
            x = block(x)
        return x if self.upsample is None else self.upsample(x)


class SwinUNet(nnx.Module):
    """Swin-Unet; see `SwinUNetConfig`.

    Attributes:
      absolute_pos_embed: [1, tokens, embed_dim] or None.
    """

    def __init__(self, config: SwinUNetConfig, rngs: nnx.Rngs) -> None:
        stages, dim, patch = len(config.depths), config.embed_dim, config.patch_size
        self.embed = PatchEmbed(config.in_channels, dim, rngs, size=patch, stride=patch)
        positions = jnp.zeros((1, config.side(0) ** 2, dim))
        self.absolute_pos_embed = nnx.Param(positions) if config.absolute_positions else None
        self.encoder = nnx.List([Encode(config, i, rngs) for i in range(stages)])
        coarsest = config.dim(stages - 1)
        self.norm = layer_norm(coarsest, rngs)
        self.bottom = PatchExpand(coarsest, coarsest // 2, 2, rngs)
        self.decoder = nnx.List([Decode(config, i, rngs) for i in range(stages - 1)[::-1]])
        self.norm_up = layer_norm(dim, rngs)
        self.up = PatchExpand(dim, dim, patch, rngs)
        self.head = conv(dim, config.num_logits, 1, rngs, use_bias=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, image_size, image_size, C] -> logits of the same size, num_logits channels."""
        x, skips = self.embed(x), []
        if self.absolute_pos_embed is not None:
            x += self.absolute_pos_embed[...].reshape(1, *x.shape[1:])
        for stage in self.encoder:
            skips.append(x)
            x = stage(x)
        skips.pop()
        x = self.bottom(self.norm(x))
        for stage in self.decoder:
            x = stage(x, skips.pop())
        return self.head(self.up(self.norm_up(x)))
