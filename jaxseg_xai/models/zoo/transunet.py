"""TransUNet (Chen et al., 2021, arXiv 2102.04306): ResNet, transformer, and a U-Net's decoder."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.convolution import ConvNorm, conv, conv_norm_names
from jaxseg_xai.models.blocks.mlp import MLP
from jaxseg_xai.models.blocks.resnet_v2 import ResNetV2
from jaxseg_xai.models.norms import layer_norm
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransUNetConfig(Architecture):
    """Shape of a TransUNet; the defaults are PdCR's, R50 + ViT-B/16.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      image_size: height and width of the image, to which the net is bound.
      resnet_width: of the first convolution; the blocks give 4, 8, 16, .. times as many channels.
      resnet_depths: units of every block, two blocks at least, of 1/4, 1/8, 1/16, .. of the size.
      num_groups: of the ResNet's group normalisations.
      hidden_size: width of the transformer.
      mlp_dim: width of its hidden layers.
      num_heads: its attention heads.
      num_layers: its layers.
      more_channels: width of the decoder's first convolution.
      decoder_channels: width after every up-sampling, coarsest first, one more than blocks.

    References:
      Chen et al., arXiv 2102.04306, section 3.
    """

    name: ClassVar[str] = "transunet"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    image_size: int = setting(256, at_least=1)
    resnet_width: int = setting(64, at_least=1)
    resnet_depths: tuple[int, ...] = setting((3, 4, 9), at_least=1)
    num_groups: int = setting(32, at_least=1)
    hidden_size: int = setting(768, at_least=1)
    mlp_dim: int = setting(3072, at_least=1)
    num_heads: int = setting(12, at_least=1)
    num_layers: int = setting(12, at_least=1)
    more_channels: int = setting(512, at_least=1)
    decoder_channels: tuple[int, ...] = setting((256, 128, 64, 16), at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where the parts do not match, or do not fit the image."""
        if (blocks := len(self.resnet_depths)) < 2:
            raise ConfigError("resnet_depths has fewer than 2 entries; give one per block")
        if len(self.decoder_channels) != blocks + 1:
            raise ConfigError(
                f"decoder_channels has {len(self.decoder_channels)} entries; {blocks} "
                "resnet_depths need one more than that"
            )
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"{self.num_heads} heads cannot share hidden_size = {self.hidden_size}; correct "
                "num_heads"
            )
        if self.resnet_width % self.num_groups:
            raise ConfigError(
                f"{self.num_groups} groups cannot share resnet_width = {self.resnet_width}; "
                "correct num_groups"
            )
        if self.image_size % self.token():
            raise ConfigError(
                f"image_size is {self.image_size}; it must be a multiple of {self.token()}, a token"
            )

    def token(self) -> int:
        """Pixels along each axis of a token."""
        return 2 ** (len(self.resnet_depths) + 1)

    def build(self, rngs: nnx.Rngs) -> "TransUNet":
        """The network, randomly initialised."""
        return TransUNet(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images of one size."""
        return InputSpec(channels=self.in_channels, fixed_size=(self.image_size,) * 2)

    def sites(self) -> Sites:
        """The decoder's first convolution: a linear map of the transformer's output."""
        return Sites(cam_layer="more/conv")

    def torch_names(self) -> dict[str, str]:
        """Modules of the published code -> ours."""
        embeddings = "transformer.embeddings"
        ours = {
            embeddings: "",
            f"{embeddings}.hybrid_model.root": "backbone/root",
            f"{embeddings}.patch_embeddings": "embed",
            "transformer.encoder.layer": "layers",
            "transformer.encoder.encoder_norm": "norm",
            "segmentation_head.0": "head",
        }
        for i, depth in enumerate(self.resnet_depths):
            for j in range(depth):
                unit = f"{embeddings}.hybrid_model.body.block{i + 1}.unit{j + 1}"
                ours[unit] = f"backbone/blocks/{i}/{j}"
        ours |= conv_norm_names("decoder.conv_more", "more")
        for i in range(len(self.decoder_channels)):
            for part in ("conv1", "conv2"):
                ours |= conv_norm_names(f"decoder.blocks.{i}.{part}", f"decoder/{i}/{part}")
        return ours


class Attention(nnx.Module):
    """Self-attention of all tokens."""

    def __init__(self, dim: int, heads: int, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.query = nnx.Linear(dim, dim, rngs=rngs)
        self.key = nnx.Linear(dim, dim, rngs=rngs)
        self.value = nnx.Linear(dim, dim, rngs=rngs)
        self.out = nnx.Linear(dim, dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        heads = (x.shape[0], -1, self.heads, x.shape[-1] // self.heads)
        q, k, v = (part(x).reshape(heads) for part in (self.query, self.key, self.value))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(heads[-1])
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
        return self.out(mixed.reshape(x.shape))


class Layer(nnx.Module):
    """Attention and feed-forward, each normalised before and added."""

    def __init__(self, config: TransUNetConfig, rngs: nnx.Rngs) -> None:
        dim = config.hidden_size
        self.attention_norm = layer_norm(dim, rngs, epsilon=1e-6)
        self.attn = Attention(dim, config.num_heads, rngs)
        self.ffn_norm = layer_norm(dim, rngs, epsilon=1e-6)
        self.ffn = MLP(dim, config.mlp_dim, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, dim] -> [B, H, W, dim]."""
        x = x + self.attn(self.attention_norm(x))
        return x + self.ffn(self.ffn_norm(x))


class Decode(nnx.Module):
    """Twice the size, joined with the skip connection, two convolutions."""

    def __init__(self, n_in: int, n_out: int, rngs: nnx.Rngs) -> None:
        self.conv1 = ConvNorm(n_in, n_out, 3, rngs)
        self.conv2 = ConvNorm(n_out, n_out, 3, rngs)

    def __call__(self, x: jax.Array, skip: jax.Array | None) -> jax.Array:
        """[B, H, W, C] and [B, 2H, 2W, C'] or None -> [B, 2H, 2W, n_out]."""
        x = layers.upsample_2x_bilinear(x)
        return self.conv2(self.conv1(x if skip is None else jnp.concatenate([x, skip], axis=-1)))


class TransUNet(nnx.Module):
    """TransUNet; see `TransUNetConfig`.

    Attributes:
      position_embeddings: [1, tokens, hidden_size].
    """

    def __init__(self, config: TransUNetConfig, rngs: nnx.Rngs) -> None:
        hidden, blocks, width = config.hidden_size, len(config.resnet_depths), config.resnet_width
        widths = [width, *(4 * width * 2**i for i in range(blocks))]
        self.backbone = ResNetV2(
            config.in_channels, width, config.resnet_depths, config.num_groups, rngs
        )
        self.embed = conv(widths[-1], hidden, 1, rngs)
        tokens = (config.image_size // config.token()) ** 2
        self.position_embeddings = nnx.Param(jnp.zeros((1, tokens, hidden)))
        self.layers = nnx.List([Layer(config, rngs) for _ in range(config.num_layers)])
        self.norm = layer_norm(hidden, rngs, epsilon=1e-6)
        self.more = ConvNorm(hidden, config.more_channels, 3, rngs)
        inputs = (config.more_channels, *config.decoder_channels[:-1])
        skips = (*widths[-2::-1], 0)
        sizes = zip(inputs, skips, config.decoder_channels, strict=True)
        self.decoder = nnx.List([Decode(n + s, n_out, rngs) for n, s, n_out in sizes])
        self.head = conv(config.decoder_channels[-1], config.num_logits, 3, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, image_size, image_size, C] -> logits of the same size, num_logits channels."""
        root, first, *coarser = self.backbone(x)
        rest = [(0, n // 4 - m) for n, m in zip(x.shape[1:3], first.shape[1:3], strict=True)]
        first = jnp.pad(first, [(0, 0), *rest, (0, 0)])
        x = self.embed(coarser.pop())
        x += self.position_embeddings[...].reshape(1, *x.shape[1:])
        for layer in self.layers:
            x = layer(x)
        x = self.more(self.norm(x))
        for block, skip in zip(self.decoder, (*coarser[::-1], first, root, None), strict=True):
            x = block(x, skip)
        return self.head(x)
