"""Attention U-Net (Oktay et al., 2018, arXiv 1804.03999) of images or volumes."""

import dataclasses
import itertools
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.convolution import ConvTranspose
from jaxseg_xai.models.norms import GroupNorm, norm_layer
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionUNetConfig(Architecture):
    """Shape of an Attention U-Net as MONAI's `AttentionUnet` builds it, whose weights are read.

    MONAI leaves channels and strides to its caller; the defaults are those of its other U-Nets.

    Attributes:
      rank: 2 for images, 3 for volumes.
      in_channels: channels of the image.
      num_logits: channels of the output.
      channels: width of every resolution, finest first.
      strides: by how much every resolution but the first is coarser than the one before.
      kernel_size: of the convolutions.
      up_kernel_size: of the transposed ones.

    References:
      Oktay et al., arXiv 1804.03999, section 3. Compared with MONAI 1.5.1.
    """

    name: ClassVar[str] = "attention_unet"
    rank: Literal[2, 3] = 2
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    channels: tuple[int, ...] = setting((16, 32, 64, 128, 256), at_least=2)
    strides: tuple[int, ...] = setting((2, 2, 2, 2), at_least=1)
    kernel_size: int = setting(3, at_least=1, odd=True)
    up_kernel_size: int = setting(3, at_least=1, odd=True)

    def check_together(self) -> None:
        """Raise `ConfigError` where the resolutions do not match."""
        if not 1 <= len(self.strides) == len(self.channels) - 1:
            raise ConfigError(
                f"channels has {len(self.channels)} entries, strides {len(self.strides)}; give two "
                "channels at least, and one stride fewer"
            )

    def build(self, rngs: nnx.Rngs) -> "AttentionUNet":
        """The network, randomly initialised."""
        return AttentionUNet(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images whose sides every stride divides."""
        multiple = math.prod(self.strides)
        return InputSpec(rank=self.rank, channels=self.in_channels, multiple_of=multiple)

    def sites(self) -> Sites:
        """The bottleneck, from where class activation maps are taken."""
        return Sites(cam_layer=f"encoder/{len(self.strides)}/conv2")

    def torch_names(self) -> dict[str, str]:
        """MONAI's modules, which lie in one another, -> ours."""
        ours = _block_names("model.0", "encoder/0") | {"model.2.conv": "head"}
        layer = "model.1"
        for i in range(len(self.strides)):
            bottom = i == len(self.strides) - 1
            below = f"{layer}.submodule" if bottom else f"{layer}.submodule.0"
            ours |= _block_names(below, f"encoder/{i + 1}")
            for theirs, name in _OF_MONAI.items():
                ours[f"{layer}.{theirs}"] = f"decoder/{i}/{name}"
            layer += ".submodule.1"
        return ours


#: Module of an attention layer of MONAI -> of a `Join`.
_OF_MONAI = {
    "upconv.up.conv": "up",
    "upconv.up.adn.N": "up_norm",
    "attention.W_g.0.conv": "gate/below",
    "attention.W_g.1": "gate/below_norm",
    "attention.W_x.0.conv": "gate/skip",
    "attention.W_x.1": "gate/skip_norm",
    "attention.psi.0.conv": "gate/psi",
    "attention.psi.1": "gate/psi_norm",
    "merge.conv": "merge",
    "merge.adn.A": "slope",
}


def _block_names(theirs: str, ours: str) -> dict[str, str]:
    names = {}
    for i in (1, 2):
        names[f"{theirs}.conv.{i - 1}.conv"] = f"{ours}/conv{i}"
        names[f"{theirs}.conv.{i - 1}.adn.N"] = f"{ours}/norm{i}"
    return names


def _conv(
    config: AttentionUNetConfig, n_in: int, n_out: int, size: int, rngs: nnx.Rngs, stride: int = 1
) -> nnx.Conv:
    return nnx.Conv(
        n_in,
        n_out,
        (size,) * config.rank,
        strides=stride,
        padding=size // 2,
        conv_general_dilated=layers.conv_general_dilated,
        rngs=rngs,
    )


class DoubleConv(nnx.Module):
    """Twice: convolution, normalisation, ReLU."""

    def __init__(
        self, config: AttentionUNetConfig, n_in: int, n_out: int, stride: int, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = _conv(config, n_in, n_out, config.kernel_size, rngs, stride)
        self.norm1 = norm_layer("batch", n_out, rngs)
        self.conv2 = _conv(config, n_out, n_out, config.kernel_size, rngs)
        self.norm2 = norm_layer("batch", n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, *S, n_in] -> [B, *S / stride, n_out]."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(self.norm2(self.conv2(x)))


class Gate(nnx.Module):
    """Every pixel of a skip connection times a number in [0, 1] that it and its coarser one set."""

    def __init__(self, config: AttentionUNetConfig, channels: int, rngs: nnx.Rngs) -> None:
        inner = channels // 2
        self.below = _conv(config, channels, inner, 1, rngs)
        self.below_norm = norm_layer("batch", inner, rngs)
        self.skip = _conv(config, channels, inner, 1, rngs)
        self.skip_norm = norm_layer("batch", inner, rngs)
        self.psi = _conv(config, inner, 1, 1, rngs)
        self.psi_norm = norm_layer("batch", 1, rngs)

    def __call__(self, below: jax.Array, skip: jax.Array) -> jax.Array:
        """Two of [B, *S, channels] -> one."""
        both = self.below_norm(self.below(below)) + self.skip_norm(self.skip(skip))
        return skip * nnx.sigmoid(self.psi_norm(self.psi(nnx.relu(both))))


class Slope(nnx.Module):
    """PReLU of one slope.

    Attributes:
      scale: of what is below zero, [1].
    """

    def __init__(self) -> None:
        self.scale = nnx.Param(jnp.full(1, 0.25))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Any shape."""
        return jnp.where(x >= 0, x, self.scale[...].astype(x.dtype) * x)


class Join(nnx.Module):
    """The way up to one resolution, and what comes from there, gated."""

    def __init__(
        self, config: AttentionUNetConfig, channels: int, below: int, stride: int, rngs: nnx.Rngs
    ) -> None:
        half = config.up_kernel_size // 2
        self.up = ConvTranspose(
            below,
            channels,
            (config.up_kernel_size,) * config.rank,
            strides=stride,
            # Of PyTorch's padding half and output_padding stride - 1.
            padding=((half, half + stride - 1),) * config.rank,
            rngs=rngs,
        )
        self.up_norm = norm_layer("batch", channels, rngs)
        self.gate = Gate(config, channels, rngs)
        self.merge = _conv(config, 2 * channels, channels, 3, rngs)
        # Of MONAI's usual block, whose normalisation has no weights.
        self.merge_norm = GroupNorm(
            channels,
            num_groups=channels,
            epsilon=1e-5,
            use_bias=False,
            use_scale=False,
            rngs=rngs,
        )
        self.slope = Slope()

    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """[B, *S, below] and the encoder's [B, *S stride, channels] -> the latter's shape."""
        x = nnx.relu(self.up_norm(self.up(x)))
        x = self.merge(jnp.concatenate([self.gate(x, skip), x], axis=-1))
        return self.slope(self.merge_norm(x))


class AttentionUNet(nnx.Module):
    """Attention U-Net; see `AttentionUNetConfig`."""

    def __init__(self, config: AttentionUNetConfig, rngs: nnx.Rngs) -> None:
        widths = list(itertools.pairwise(config.channels))
        inputs = [(config.in_channels, config.channels[0]), *widths]
        self.encoder = nnx.List(
            [
                DoubleConv(config, a, b, stride, rngs)
                for (a, b), stride in zip(inputs, (1, *config.strides), strict=True)
            ]
        )
        self.decoder = nnx.List(
            [
                Join(config, a, b, stride, rngs)
                for (a, b), stride in zip(widths, config.strides, strict=True)
            ]
        )
        self.head = _conv(config, config.channels[0], config.num_logits, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, *S, C] -> logits [B, *S, num_logits]; S as `input_spec` says."""
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        skips.pop()
        for join in reversed(self.decoder):
            x = join(x, skips.pop())
        return self.head(x)
