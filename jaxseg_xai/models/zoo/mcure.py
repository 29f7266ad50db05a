"""MCURE, PdCR's own network (arXiv 2602.20511): a ResNet and a VM-UNet's encoder side by side."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.basic_block import basic_names, basic_stage
from jaxseg_xai.models.blocks.convolution import ConvTranspose, conv
from jaxseg_xai.models.blocks.vss import PATCH, Encoder
from jaxseg_xai.models.norms import norm_layer
from jaxseg_xai.ops import layers

#: Levels from here on, counted from 1, are joined with the one two above before they are risen.
_DEEP = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class MCUREConfig(Architecture):
    """Shape of an MCURE; the defaults are PdCR's.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      width: of the finest stage of scans; every further one has twice that of the one before.
      scan_depths: blocks of every stage of scans, finest first.
      num_states: of every channel of a scan.
      encoder_channels: width of every stage of the ResNet, finest first, and of the scans beside.
      depths: blocks of every stage of the ResNet.
      decoder_channels: width of the decoder.
      num_groups: groups of its convolutions.

    References:
      arXiv 2602.20511; PdCR's code, commit 6da8b5d1, with which it was compared.
    """

    name: ClassVar[str] = "mcure"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    width: int = setting(96, at_least=1)
    scan_depths: tuple[int, ...] = setting((2, 2, 2, 2), at_least=0)
    num_states: int = setting(16, at_least=1)
    encoder_channels: tuple[int, ...] = setting((64, 128, 256, 512), at_least=1)
    depths: tuple[int, ...] = setting((3, 4, 6, 3), at_least=1)
    decoder_channels: int = setting(64, at_least=2)
    num_groups: int = setting(32, at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where stages, or channels and groups, do not match."""
        stages = len(self.encoder_channels)
        for field in ("scan_depths", "depths"):
            if (found := len(getattr(self, field))) != stages:
                raise ConfigError(
                    f"{field} has {found} entries, encoder_channels {stages}; give one per stage"
                )
        if self.decoder_channels % (2 * self.num_groups):
            raise ConfigError(
                f"decoder_channels is {self.decoder_channels}; it must be a multiple of twice "
                f"num_groups = {self.num_groups}"
            )
        for channels in self.encoder_channels:
            if channels % self.decoder_channels:
                raise ConfigError(
                    f"encoder_channels has {channels}; give multiples of decoder_channels = "
                    f"{self.decoder_channels}"
                )

    def build(self, rngs: nnx.Rngs) -> "MCURE":
        """The network, randomly initialised."""
        return MCURE(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images whose sides every stage can halve."""
        multiple = PATCH * 2 ** (len(self.depths) - 1)
        return InputSpec(channels=self.in_channels, multiple_of=multiple)

    def sites(self) -> Sites:
        """Where the coarsest features of both encoders have been joined."""
        levels = len(self.depths)
        deep = f"deep/{levels - _DEEP}" if levels >= _DEEP else f"decoder/{levels - 1}"
        return Sites(cam_layer=f"{deep}/conv3")

    def torch_names(self) -> dict[str, str]:
        """Modules of PdCR's code -> ours."""
        ours = {f"vmunet.{part}": f"scans/{part}" for part in ("patch_embed", "layers")}
        ours |= {"firstconv.conv": "first", "firstconv.bn": "first_norm"}
        for i, depth in enumerate(self.depths):
            ours |= {
                f"vm_conv{i + 1}": f"risen/{i}",
                f"decoder0_{i + 1}": f"decoder/{i}",
                f"logit{i + 1}": f"heads/{i}",
            }
            if i + 1 >= _DEEP:
                ours[f"deep_conv{i + 1}"] = f"deep/{i + 1 - _DEEP}"
            ours |= basic_names(f"encoder{i + 1}", f"stages/{i}", depth)
        return ours


_conv = functools.partial(conv, use_bias=False)


class DecoderBlock(nnx.Module):
    """Twice: grouped 3x3 convolution, normalisation, ReLU."""

    def __init__(self, n_in: int, config: MCUREConfig, rngs: nnx.Rngs) -> None:
        n_out, groups = config.decoder_channels, config.num_groups
        self.conv1 = _conv(n_in, n_out // 2, 3, rngs, feature_group_count=groups)
        self.norm1 = norm_layer("batch", n_out // 2, rngs)
        self.conv3 = _conv(n_out // 2, n_out, 3, rngs, feature_group_count=groups)
        self.norm3 = norm_layer("batch", n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H, W, decoder_channels]."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(self.norm3(self.conv3(x)))


class DilatedBlock(nnx.Module):
    """Grouped 1x1 convolution, depthwise ones of three dilations side by side, one of all."""

    def __init__(self, n_in: int, config: MCUREConfig, rngs: nnx.Rngs) -> None:
        n_out, half = config.decoder_channels, config.decoder_channels // 2
        options = {"feature_group_count": half}
        self.conv1 = _conv(n_in, half, 1, rngs, **options)
        self.norm1 = norm_layer("batch", half, rngs)
        self.dila_1 = _conv(half, half, 3, rngs, **options)
        self.dila_2 = _conv(half, half, 3, rngs, dilation=2, **options)
        self.dila_3 = _conv(half, half, 3, rngs, dilation=4, **options)
        self.conv3 = _conv(3 * half, n_out, 3, rngs, **options)
        self.norm3 = norm_layer("batch", n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H, W, decoder_channels]."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        # The groups of the last convolution take the channels as they come: mostly of one dilation.
        x = jnp.concatenate([self.dila_1(x), self.dila_2(x), self.dila_3(x)], axis=-1)
        return nnx.relu(self.norm3(self.conv3(x)))


def _rise(x: jax.Array, times: int) -> jax.Array:
    """Nearest-neighbour up-sampling, so many times by two."""
    for _ in range(times):
        x = layers.upsample_2x_nearest(x)
    return x


class MCURE(nnx.Module):
    """MCURE; see `MCUREConfig`.

    Attributes:
      mix: weight of the logits of every level, [levels].
    """

    def __init__(self, config: MCUREConfig, rngs: nnx.Rngs) -> None:
        widths, depths, out = config.encoder_channels, config.depths, config.decoder_channels
        levels = len(widths)
        self.scans = Encoder(
            config.in_channels, config.width, config.scan_depths, config.num_states, rngs
        )
        self.risen = nnx.List(
            [
                # Of PyTorch's padding 1 and output_padding 1.
                ConvTranspose(
                    config.width * 2**i, n, (3, 3), strides=2, padding=((1, 2), (1, 2)), rngs=rngs
                )
                for i, n in enumerate(widths)
            ]
        )
        self.first = _conv(config.in_channels, widths[0], 3, rngs)
        self.first_norm = norm_layer("batch", widths[0], rngs)
        self.stages = nnx.List(
            [
                basic_stage(a, b, depth, rngs, stride=2 if i else 1)
                for i, (a, b, depth) in enumerate(
                    zip((widths[0], *widths), widths, depths, strict=False)
                )
            ]
        )
        both = [2 * n for n in widths]
        self.deep = nnx.List(
            [DilatedBlock(both[i - 2] + both[i], config, rngs) for i in range(2, levels)]
        )
        risen = [*both[: _DEEP - 1], *[out] * (levels - _DEEP + 1)]
        self.decoder = nnx.List(
            [DecoderBlock(widths[0] + out * i + risen[i], config, rngs) for i in range(levels)]
        )
        self.heads = nnx.List([conv(out, config.num_logits, 1, rngs) for _ in widths])
        self.mix = nnx.Param(jnp.ones(levels))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]; H, W as `input_spec` says."""
        scanned = self.scans(x)[1]
        found = [self.first_norm(self.first(x))]
        x, both = layers.max_pool_2(found[0]), []
        for stage, rise, y in zip(self.stages, self.risen, scanned, strict=True):
            for block in stage:
                x = block(x)
            both.append(jnp.concatenate([x, rise(y)], axis=-1))
        for i, decoder in enumerate(self.decoder):
            x, times = both[i], i + 1
            if i + 1 >= _DEEP:
                x = jnp.concatenate([both[i - 2], _rise(x, 2)], axis=-1)
                x, times = self.deep[i + 1 - _DEEP](x), times - 2
            found.append(decoder(jnp.concatenate([*found, _rise(x, times)], axis=-1)))
        mix = self.mix[...].astype(x.dtype)
        logits, *others = (mix[i] * head(found[i + 1]) for i, head in enumerate(self.heads))
        for more in others:
            logits = logits + more
        return logits
