"""SegFormer (Xie et al., 2021, arXiv 2105.15203): a transformer of several scales, an MLP head."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.patch_embed import PatchEmbed
from jaxseg_xai.models.norms import norm_layer
from jaxseg_xai.ops import layers

Gelu = Literal["exact", "tanh"]
Variant = Literal["b0", "b1", "b2", "b3", "b4", "b5"]

#: Variant -> blocks of every stage (table 6 of the paper).
_DEPTHS: dict[str, tuple[int, ...]] = {
    "b0": (2, 2, 2, 2),
    "b1": (2, 2, 2, 2),
    "b2": (3, 4, 6, 3),
    "b3": (3, 4, 18, 3),
    "b4": (3, 8, 27, 3),
    "b5": (3, 6, 40, 3),
}
#: Module of a block in transformers -> ours.
_OF_TRANSFORMERS = {
    "layer_norm_1": "norm1",
    "layer_norm_2": "norm2",
    "attention.self": "attn",
    "attention.self.query": "attn/q",
    "attention.self.layer_norm": "attn/norm",
    "attention.output.dense": "attn/proj",
    "mlp.dense1": "mlp/fc1",
    "mlp.dense2": "mlp/fc2",
    "mlp.dwconv.dwconv": "mlp/depthwise",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegFormerConfig(Architecture):
    """Shape of a SegFormer; the defaults are B0, `of_variant` makes the others.

    Read are the weights of NVIDIA and of PdCR, which have the same names, and of transformers'
    `SegformerForSemanticSegmentation`. Their outputs differ with the same weights; the table has
    the settings. Compared with the originals were PdCR's (logits and gradients, commit 6da8b5d1)
    and transformers' (logits, version 4.57.1); NVIDIA's settings are from their code.
    mmsegmentation's head has a normalisation at every stage: another network, not read.

    | weights of | gelu | block_epsilon | fuse_epsilon | align_corners |
    |---|---|---|---|---|
    | NVIDIA | exact | 1e-6 | 1e-5 | false |
    | transformers | exact | 1e-5 | 1e-5 | false |
    | PdCR | tanh | 1e-6 | 1e-3 | true |

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      embed_dims: width of every stage, finest first; the first sees 1/4 of the pixels along each
        axis, each further one half of the one before.
      depths: blocks of every stage.
      num_heads: attention heads of every stage.
      sr_ratios: by how much the keys and values of every stage are coarser than the queries.
      mlp_ratio: width of a block's hidden layer over that of the stage.
      decoder_dim: width of the head.
      gelu: "exact" (by the error function) or its approximation by "tanh".
      block_epsilon: of the LayerNorms in the blocks and at the end of stages; others have 1e-5.
      fuse_epsilon: of the head's BatchNorm.
      align_corners: how the logits are brought from 1/4 to the size of the image.

    References:
      Xie et al., arXiv 2105.15203, sections 3.1 and 3.2 and table 6.
    """

    name: ClassVar[str] = "segformer"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    embed_dims: tuple[int, ...] = setting((32, 64, 160, 256), at_least=1)
    depths: tuple[int, ...] = setting((2, 2, 2, 2), at_least=1)
    num_heads: tuple[int, ...] = setting((1, 2, 5, 8), at_least=1)
    sr_ratios: tuple[int, ...] = setting((8, 4, 2, 1), at_least=1)
    mlp_ratio: int = setting(4, at_least=1)
    decoder_dim: int = setting(256, at_least=1)
    gelu: Gelu = setting("exact", choices=get_args(Gelu))
    block_epsilon: float = setting(1e-6, above=0)
    fuse_epsilon: float = setting(1e-5, above=0)
    align_corners: bool = False

    def check_together(self) -> None:
        """Raise `ConfigError` where the stages do not match."""
        stages = len(self.embed_dims)
        for field in ("depths", "num_heads", "sr_ratios"):
            if (found := len(getattr(self, field))) != stages:
                raise ConfigError(
                    f"{field} has {found} entries, embed_dims {stages}; give one per stage"
                )
        for dim, heads in zip(self.embed_dims, self.num_heads, strict=True):
            if dim % heads:
                raise ConfigError(f"{heads} heads cannot share {dim} channels; correct num_heads")

    @classmethod
    def of_variant(cls, variant: Variant, **options) -> "SegFormerConfig":
        """The published sizes; options are further fields."""
        if variant not in _DEPTHS:
            raise ConfigError(f"variant is {variant!r}; use {', '.join(_DEPTHS)}")
        size: dict[str, Any] = {"depths": _DEPTHS[variant]}
        if variant != "b0":
            size["embed_dims"] = (64, 128, 320, 512)
        if variant not in ("b0", "b1"):
            size["decoder_dim"] = 768
        return cls(**(size | options))

    def build(self, rngs: nnx.Rngs) -> "SegFormer":
        """The network, randomly initialised."""
        return SegFormer(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images of any size."""
        return InputSpec(channels=self.in_channels)

    def sites(self) -> Sites:
        """The layer in which the head brings the features of all stages together.

        Of the coarsest stage alone nothing may speak for a class, and the map would be empty.
        """
        return Sites(cam_layer="head/fuse")

    def torch_names(self) -> dict[str, str]:
        """Modules of NVIDIA and PdCR, and of transformers -> ours."""
        ours = {
            "decode_head.linear_fuse.conv": "head/fuse",
            "decode_head.linear_fuse.bn": "head/norm",
            "decode_head.linear_pred": "head/pred",
            "decode_head.linear_fuse": "head/fuse",
            "decode_head.batch_norm": "head/norm",
            "decode_head.classifier": "head/pred",
        }
        for i, depth in enumerate(self.depths):
            stage, one, other = f"stages/{i}", "backbone", "segformer.encoder"
            ours |= {
                f"{one}.patch_embed{i + 1}": f"{stage}/embed",
                f"{one}.block{i + 1}": f"{stage}/blocks",
                f"{one}.norm{i + 1}": f"{stage}/norm",
                f"decode_head.linear_c{i + 1}.proj": f"head/linear/{i}",
                f"{other}.patch_embeddings.{i}": f"{stage}/embed",
                f"{other}.patch_embeddings.{i}.layer_norm": f"{stage}/embed/norm",
                f"{other}.block.{i}": f"{stage}/blocks",
                f"{other}.layer_norm.{i}": f"{stage}/norm",
                f"decode_head.linear_c.{i}.proj": f"head/linear/{i}",
            }
            for j in range(depth):
                block = f"{stage}/blocks/{j}"
                ours[f"{one}.block{i + 1}.{j}.mlp.dwconv.dwconv"] = f"{block}/mlp/depthwise"
                for theirs, name in _OF_TRANSFORMERS.items():
                    ours[f"{other}.block.{i}.{j}.{theirs}"] = f"{block}/{name}"
        return ours

    def translate(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """transformers' keys and values become one layer; a layer that NVIDIA never calls goes."""
        found = {name: value for name, value in arrays.items() if ".conv_seg." not in name}
        for name in arrays:
            value = name.replace(".attention.self.key.", ".attention.self.value.")
            if value != name and value in found:
                both = [found.pop(name), found.pop(value)]
                found[name.replace(".self.key.", ".self.kv.")] = np.concatenate(both)
        return found


def _conv(n_in: int, n_out: int, size: int, rngs: nnx.Rngs, **options: Any) -> nnx.Conv:
    options["conv_general_dilated"] = layers.conv_general_dilated
    return nnx.Conv(n_in, n_out, (size, size), rngs=rngs, **options)


class Attention(nnx.Module):
    """Self-attention of all pixels to a coarser grid of them."""

    def __init__(self, dim: int, heads: int, ratio: int, rngs: nnx.Rngs) -> None:
        self.heads, self.ratio = heads, ratio
        self.q = nnx.Linear(dim, dim, rngs=rngs)
        self.kv = nnx.Linear(dim, 2 * dim, rngs=rngs)
        self.proj = nnx.Linear(dim, dim, rngs=rngs)
        if ratio > 1:
            self.sr = _conv(dim, dim, ratio, rngs, strides=ratio, padding="VALID")
            self.norm = nnx.LayerNorm(dim, epsilon=1e-5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        b, _, _, dim = x.shape
        coarse = x
        if self.ratio > 1:
            # One window at least, also where the image is smaller than that.
            rest = [(0, max(0, self.ratio - n)) for n in x.shape[1:3]]
            coarse = self.norm(self.sr(jnp.pad(x, [(0, 0), *rest, (0, 0)])))
        heads = (self.heads, dim // self.heads)
        q = self.q(x).reshape(b, -1, *heads)
        k, v = jnp.moveaxis(self.kv(coarse).reshape(b, -1, 2, *heads), 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(heads[1])
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
        return self.proj(mixed.reshape(x.shape))


class MixFFN(nnx.Module):
    """Two linear layers with a depthwise 3x3 convolution between, which tells where pixels are."""

    def __init__(self, config: SegFormerConfig, dim: int, rngs: nnx.Rngs) -> None:
        hidden = dim * config.mlp_ratio
        self.approximate = config.gelu == "tanh"
        self.fc1 = nnx.Linear(dim, hidden, rngs=rngs)
        self.depthwise = _conv(hidden, hidden, 3, rngs, feature_group_count=hidden)
        self.fc2 = nnx.Linear(hidden, dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        return self.fc2(jax.nn.gelu(self.depthwise(self.fc1(x)), approximate=self.approximate))


class Block(nnx.Module):
    """Attention and feed-forward, each normalised before and added."""

    def __init__(self, config: SegFormerConfig, stage: int, rngs: nnx.Rngs) -> None:
        dim = config.embed_dims[stage]
        self.norm1 = nnx.LayerNorm(dim, epsilon=config.block_epsilon, rngs=rngs)
        self.attn = Attention(dim, config.num_heads[stage], config.sr_ratios[stage], rngs)
        self.norm2 = nnx.LayerNorm(dim, epsilon=config.block_epsilon, rngs=rngs)
        self.mlp = MixFFN(config, dim, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Stage(nnx.Module):
    """A resolution of the encoder."""

    def __init__(self, config: SegFormerConfig, stage: int, n_in: int, rngs: nnx.Rngs) -> None:
        dim = config.embed_dims[stage]
        size, stride = (3, 2) if stage else (7, 4)
        self.embed = PatchEmbed(n_in, dim, rngs, size=size, stride=stride)
        self.blocks = nnx.List([Block(config, stage, rngs) for _ in range(config.depths[stage])])
        self.norm = nnx.LayerNorm(dim, epsilon=config.block_epsilon, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """What the stage before found, or the image -> half or a quarter of the sides, dim."""
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Head(nnx.Module):
    """All-MLP head: every stage to one width and to the finest grid, fused pixel by pixel."""

    def __init__(self, config: SegFormerConfig, rngs: nnx.Rngs) -> None:
        dim = config.decoder_dim
        self.linear = nnx.List([nnx.Linear(n, dim, rngs=rngs) for n in config.embed_dims])
        self.fuse = _conv(dim * len(config.embed_dims), dim, 1, rngs, use_bias=False)
        self.norm = norm_layer("batch", dim, rngs, epsilon=config.fuse_epsilon)
        self.pred = _conv(dim, config.num_logits, 1, rngs)

    def __call__(self, features: Sequence[jax.Array]) -> jax.Array:
        """One [B, H_i, W_i, C_i] per stage, finest first -> logits [B, H_0, W_0, num_logits]."""
        size = features[0].shape[1:3]
        pairs = zip(self.linear, features, strict=True)
        levels = [layers.resize_linear(linear(x), size) for linear, x in pairs]
        return self.pred(nnx.relu(self.norm(self.fuse(jnp.concatenate(levels[::-1], axis=-1)))))


class SegFormer(nnx.Module):
    """SegFormer; see `SegFormerConfig`."""

    def __init__(self, config: SegFormerConfig, rngs: nnx.Rngs) -> None:
        self.align_corners = config.align_corners
        widths = (config.in_channels, *config.embed_dims[:-1])
        self.stages = nnx.List([Stage(config, i, n, rngs) for i, n in enumerate(widths)])
        self.head = Head(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]."""
        size, features = x.shape[1:3], []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return layers.resize_linear(self.head(features), size, align_corners=self.align_corners)
