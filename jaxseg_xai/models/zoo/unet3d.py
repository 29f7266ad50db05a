"""U-Net of volumes (Çiçek et al., 2016, arXiv 1606.06650) of any width, depth and normalisation."""

import dataclasses
import itertools
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.convolution import ConvTranspose
from jaxseg_xai.models.norms import Norm, norm_layer
from jaxseg_xai.ops import layers

Down = Literal["max_pool", "strided"]
Upsample = Literal["trilinear", "transposed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNet3DConfig(Architecture):
    """Shape of a U-Net of volumes; the defaults are those of MONAI's `BasicUNet` in 3-D.

    Its weights are read as they are where every width is twice the one before or the same, as is
    usual. (Its up-sampling halves the channels; this one gives as many as the skip connection has.)

    Attributes:
      in_channels: channels of the volume.
      num_logits: channels of the output.
      encoder_channels: width of every resolution, finest first; n entries halve it n-1 times.
      decoder_channels: width after every up-sampling, coarsest first (n-1 entries).
      norm: normalisation after every 3x3x3 convolution (epsilon 1e-5).
      num_groups: groups of "group" (fewer where they do not divide the channels).
      negative_slope: of the leaky ReLU after it; 0 is a ReLU.
      down: how a resolution is halved: "max_pool" of 2x2x2, or a "strided" first convolution.
      upsample: "trilinear" (aligned corners) or "transposed" (2x2x2 convolution, stride 2).

    References:
      Çiçek et al., arXiv 1606.06650, section 2.
    """

    name: ClassVar[str] = "unet3d"
    in_channels: int = setting(1, at_least=1)
    num_logits: int = setting(2, at_least=1)
    encoder_channels: tuple[int, ...] = setting((32, 32, 64, 128, 256), at_least=1)
    decoder_channels: tuple[int, ...] = setting((128, 64, 32, 32), at_least=1)
    norm: Norm = setting("instance", choices=get_args(Norm))
    num_groups: int = setting(8, at_least=1)
    negative_slope: float = setting(0.1, at_least=0, below=1)
    down: Down = setting("max_pool", choices=get_args(Down))
    upsample: Upsample = setting("transposed", choices=get_args(Upsample))

    def check_together(self) -> None:
        """Raise `ConfigError` where encoder and decoder do not match."""
        if len(self.decoder_channels) != len(self.encoder_channels) - 1:
            raise ConfigError(
                f"decoder_channels has {len(self.decoder_channels)} entries; "
                f"{len(self.encoder_channels)} encoder_channels need one fewer than that"
            )

    def build(self, rngs: nnx.Rngs) -> "UNet3D":
        """The network, randomly initialised."""
        return UNet3D(self, rngs)

    def input_spec(self) -> InputSpec:
        """Volumes whose sides can be halved as often as the network does."""
        multiple = 2 ** len(self.decoder_channels)
        return InputSpec(rank=3, channels=self.in_channels, multiple_of=multiple)

    def sites(self) -> Sites:
        """The bottleneck, from where class activation maps are taken."""
        return Sites(cam_layer=f"encoder/{len(self.encoder_channels) - 1}/conv2")

    def torch_names(self) -> dict[str, str]:
        """MONAI's modules -> ours."""
        blocks = {"conv_0": "encoder/0"}
        ours = {"final_conv": "head"}
        depth = len(self.decoder_channels)
        for i in range(depth):
            blocks |= {
                f"down_{i + 1}.convs": f"encoder/{i + 1}",
                f"upcat_{depth - i}.convs": f"decoder/{i}",
            }
            ours[f"upcat_{depth - i}.upsample.deconv"] = f"up/{i}"
        for theirs, name in blocks.items():
            for i in (1, 2):
                ours[f"{theirs}.conv_{i - 1}.conv"] = f"{name}/conv{i}"
                ours[f"{theirs}.conv_{i - 1}.adn.N"] = f"{name}/norm{i}"
        return ours


def _conv(n_in: int, n_out: int, size: int, rngs: nnx.Rngs, stride: int = 1) -> nnx.Conv:
    return nnx.Conv(
        n_in,
        n_out,
        (size,) * 3,
        strides=stride,
        padding=size // 2,
        conv_general_dilated=layers.conv_general_dilated,
        rngs=rngs,
    )


class DoubleConv(nnx.Module):
    """Twice: 3x3x3 convolution, normalisation, leaky ReLU."""

    def __init__(
        self, n_in: int, n_out: int, config: UNet3DConfig, rngs: nnx.Rngs, stride: int = 1
    ) -> None:
        self.negative_slope = config.negative_slope
        self.conv1 = _conv(n_in, n_out, 3, rngs, stride)
        self.norm1 = norm_layer(config.norm, n_out, rngs, num_groups=config.num_groups)
        self.conv2 = _conv(n_out, n_out, 3, rngs)
        self.norm2 = norm_layer(config.norm, n_out, rngs, num_groups=config.num_groups)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, D, H, W, n_in] -> [B, D, H, W, n_out], or half of each side."""
        x = nnx.leaky_relu(self.norm1(self.conv1(x)), self.negative_slope)
        return nnx.leaky_relu(self.norm2(self.conv2(x)), self.negative_slope)


class UNet3D(nnx.Module):
    """U-Net of volumes; see `UNet3DConfig`."""

    def __init__(self, config: UNet3DConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        strided = config.down == "strided"
        widths = itertools.pairwise((config.in_channels, *config.encoder_channels))
        self.encoder = nnx.List(
            [
                DoubleConv(a, b, config, rngs, stride=2 if strided and level else 1)
                for level, (a, b) in enumerate(widths)
            ]
        )
        skips = config.encoder_channels[-2::-1]
        below = (config.encoder_channels[-1], *config.decoder_channels)[: len(skips)]
        transposed = config.upsample == "transposed"
        # As is usual, a transposed convolution brings the channels down to the skip's.
        risen = skips if transposed else below
        self.up = nnx.List(
            [
                ConvTranspose(a, b, (2, 2, 2), strides=2, padding="VALID", rngs=rngs)
                for a, b in zip(below, risen, strict=True)
                if transposed
            ]
        )
        self.decoder = nnx.List(
            [
                DoubleConv(s + a, b, config, rngs)
                for s, a, b in zip(skips, risen, config.decoder_channels, strict=True)
            ]
        )
        last = (config.encoder_channels[0], *config.decoder_channels)[-1]
        self.head = _conv(last, config.num_logits, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Volumes [B, D, H, W, C] -> logits [B, D, H, W, num_logits]."""
        skips = []
        for level, block in enumerate(self.encoder):
            if level and self.config.down == "max_pool":
                x = layers.max_pool_2(x)
            x = block(x)
            skips.append(x)
        skips.pop()
        for level, block in enumerate(self.decoder):
            skip = skips.pop()
            x = block(jnp.concatenate([skip, self._rise(x, level)], axis=-1))
        return self.head(x)

    def _rise(self, x: jax.Array, level: int) -> jax.Array:
        if self.config.upsample == "transposed":
            return self.up[level](x)
        size = [2 * n for n in x.shape[1:-1]]
        return layers.resize_linear(x, size, align_corners=True)
