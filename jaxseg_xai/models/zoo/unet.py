"""U-Net (Ronneberger et al., 2015, arXiv 1505.04597) of any width, depth and normalisation."""

import dataclasses
import itertools
import re
from collections.abc import Mapping
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
from jaxseg_xai.models.blocks.convolution import ConvTranspose
from jaxseg_xai.models.norms import Norm, norm_layer
from jaxseg_xai.ops import layers

Preset = Literal["pdcr", "milesial"]
Upsample = Literal["bilinear", "nearest", "transposed"]

#: Preset -> what is not the default in it.
_PRESETS: dict[str, dict[str, Any]] = {
    "pdcr": {
        "encoder_channels": (64, 128, 256, 512, 512),
        "decoder_channels": (256, 128, 64, 64),
        "any_size": True,
    },
    "milesial": {
        "encoder_channels": (64, 128, 256, 512, 1024),
        "decoder_channels": (512, 256, 128, 64),
        "upsample": "transposed",
        "any_size": True,
    },
}
#: Block of the two -> ours; {} is the number of the level. The modules of a block follow.
_BLOCKS = {
    "inc.conv.conv": "encoder/0",
    "down{}.mpconv.1.conv": "encoder/{}",
    "up{}.conv.conv": "decoder/{}",
    "inc.double_conv": "encoder/0",
    "down{}.maxpool_conv.1.double_conv": "encoder/{}",
    "up{}.conv.double_conv": "decoder/{}",
}
_OF_BLOCK = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig(Architecture):
    """Shape of a U-Net.

    The weights of PdCR's U-Net and of milesial/Pytorch-UNet are known by their names: every setting
    that is left at its default is then read off them. `of_preset` makes these nets without weights.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      encoder_channels: width of every resolution, finest first; n entries mean n-1 poolings.
      decoder_channels: width after every up-sampling, coarsest first (n-1 entries).
      decoder_hidden: width between the two convolutions of a decoder's block; () is that after it.
      norm: normalisation after every 3x3 convolution (epsilon 1e-5, as in PyTorch).
      num_groups: groups of "group" (fewer where they do not divide the channels).
      upsample: "bilinear" (aligned corners), "nearest" or "transposed" (2x2 convolution, stride 2).
      skip_first: concatenate [skip, up] (else [up, skip]).
      head_relu: ReLU after the 1x1 head too.
      any_size: pool odd sides without their last pixel, and put zeros around what was up-sampled to
        less than the skip has; else sides must be multiples of the coarsest pixel.

    References:
      Ronneberger et al., 2015, arXiv 1505.04597.
    """

    name: ClassVar[str] = "unet"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    encoder_channels: tuple[int, ...] = setting((16, 32, 64, 128, 128), at_least=1)
    decoder_channels: tuple[int, ...] = setting((64, 32, 16, 16), at_least=1)
    decoder_hidden: tuple[int, ...] = setting((), at_least=1)
    norm: Norm = setting("batch", choices=get_args(Norm))
    num_groups: int = setting(8, at_least=1)
    upsample: Upsample = setting("bilinear", choices=get_args(Upsample))
    skip_first: bool = True
    head_relu: bool = False
    any_size: bool = False

    def check_together(self) -> None:
        """Raise `ConfigError` where encoder and decoder do not match."""
        if len(self.decoder_channels) != len(self.encoder_channels) - 1:
            raise ConfigError(
                f"decoder_channels has {len(self.decoder_channels)} entries; "
                f"{len(self.encoder_channels)} encoder_channels need one fewer than that"
            )
        if len(self.decoder_hidden) not in (0, len(self.decoder_channels)):
            raise ConfigError(
                f"decoder_hidden has {len(self.decoder_hidden)} entries; give as many as "
                f"decoder_channels, {len(self.decoder_channels)}, or none"
            )

    @classmethod
    def of_width(cls, width: int, depth: int = 4, **options) -> "UNetConfig":
        """The usual pyramid: `width` doubled at each of `depth` poolings but the last."""
        encoder = [width * 2**i for i in range(depth)] + [width * 2 ** (depth - 1)]
        decoder = [max(width, width * 2 ** (depth - 2 - i)) for i in range(depth - 1)] + [width]
        return cls(encoder_channels=tuple(encoder), decoder_channels=tuple(decoder), **options)

    @classmethod
    def of_preset(cls, preset: Preset, **options) -> "UNetConfig":
        """A published net; options are further fields."""
        if preset not in _PRESETS:
            raise ConfigError(f"preset is {preset!r}; use {', '.join(_PRESETS)}")
        return cls(**(_PRESETS[preset] | options))

    def build(self, rngs: nnx.Rngs) -> "UNet":
        """The network, randomly initialised."""
        return UNet(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images whose sides every pooling can halve."""
        multiple = 1 if self.any_size else 2 ** len(self.decoder_channels)
        return InputSpec(channels=self.in_channels, multiple_of=multiple)

    def sites(self) -> Sites:
        """The bottleneck, from where class activation maps are taken."""
        return Sites(cam_layer=f"encoder/{len(self.encoder_channels) - 1}/conv2")

    def torch_names(self) -> dict[str, str]:
        """Modules of PdCR's and milesial's, and of one named inc, d1.., u1.., out -> ours."""
        ours = {"inc": "encoder/0", "out": "head", "outc.conv": "head"}
        ours |= {f"d{i + 1}": f"encoder/{i + 1}" for i in range(len(self.decoder_channels))}
        for i in range(len(self.decoder_channels)):
            ours |= {f"u{i + 1}": f"decoder/{i}", f"u{i + 1}.up": f"up/{i}"}
            ours[f"up{i + 1}.up"] = f"up/{i}"
            for theirs, name in _BLOCKS.items():
                level = i if name.startswith("decoder") else i + 1
                for part, ending in _OF_BLOCK.items():
                    ours[f"{theirs.format(i + 1)}.{part}"] = f"{name.format(level)}/{ending}"
        return ours

    def for_weights(self, arrays: Mapping[str, np.ndarray]) -> "UNetConfig":
        """With what PdCR's or milesial's names and shapes show of the settings left at defaults."""
        widths = _widths(arrays)
        parts = (("encoder", "3"), ("decoder", "0"), ("decoder", "3"))
        encoder, hidden, decoder = (widths.get(part, ()) for part in parts)
        if not encoder:
            return self
        shown: dict[str, Any] = {
            "encoder_channels": encoder,
            "decoder_channels": decoder,
            "decoder_hidden": () if hidden == decoder else hidden,
            "upsample": "transposed" if "up1.up.weight" in arrays else "bilinear",
            "any_size": True,
        }
        usual = vars(UNetConfig())
        unset: dict[str, Any] = {k: v for k, v in shown.items() if vars(self)[k] == usual[k]}
        try:
            return dataclasses.replace(self, **unset)
        except ConfigError:  # levels are missing: loading the weights tells which
            return self


def _widths(arrays: Mapping[str, np.ndarray]) -> dict[tuple[str, str], tuple[int, ...]]:
    """Channels of every level, of the convolutions "0" and "3" of blocks named as in `_BLOCKS`."""
    found = {}
    for theirs, ours in _BLOCKS.items():
        pattern = re.escape(theirs).replace(r"\{\}", r"(?P<level>\d+)") + r"\.([03])\.weight"
        for name, array in arrays.items():
            if match := re.fullmatch(pattern, name):
                level = int(match.groupdict().get("level", 0))
                found[ours.split("/")[0], match.groups()[-1], level] = array.shape[0]
    of_part: dict[tuple[str, str], tuple[int, ...]] = {}
    for (part, conv, _), width in sorted(found.items()):
        of_part[part, conv] = (*of_part.get((part, conv), ()), width)
    return of_part


def _conv(n_in: int, n_out: int, size: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        n_in, n_out, (size, size), conv_general_dilated=layers.conv_general_dilated, rngs=rngs
    )


class DoubleConv(nnx.Module):
    """Twice: 3x3 convolution, normalisation, ReLU."""

    def __init__(
        self, n_in: int, hidden: int, n_out: int, config: UNetConfig, rngs: nnx.Rngs
    ) -> None:
        self.conv1 = _conv(n_in, hidden, 3, rngs)
        self.norm1 = norm_layer(config.norm, hidden, rngs, num_groups=config.num_groups)
        self.conv2 = _conv(hidden, n_out, 3, rngs)
        self.norm2 = norm_layer(config.norm, n_out, rngs, num_groups=config.num_groups)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H, W, n_out]."""
        x = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(self.norm2(self.conv2(x)))


class UNet(nnx.Module):
    """U-Net; see `UNetConfig`."""

    def __init__(self, config: UNetConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        encoder = (config.in_channels, *config.encoder_channels)
        self.encoder = nnx.List(
            [DoubleConv(a, b, b, config, rngs) for a, b in itertools.pairwise(encoder)]
        )
        below = [config.encoder_channels[-1], *config.decoder_channels][
            : len(config.decoder_channels)
        ]
        skips = config.encoder_channels[-2::-1]
        hidden = config.decoder_hidden or config.decoder_channels
        transposed = config.upsample == "transposed"
        # As is usual, a transposed convolution brings the channels down to the skip's.
        risen = list(skips) if transposed else below
        self.up = nnx.List(
            [
                ConvTranspose(a, b, (2, 2), strides=(2, 2), padding="VALID", rngs=rngs)
                for a, b in zip(below, risen, strict=True)
            ]
            if transposed
            else []
        )
        self.decoder = nnx.List(
            [
                DoubleConv(a + s, h, b, config, rngs)
                for a, s, h, b in zip(risen, skips, hidden, config.decoder_channels, strict=True)
            ]
        )
        last = config.decoder_channels[-1] if skips else config.encoder_channels[-1]
        self.head = _conv(last, config.num_logits, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]; H, W as `input_spec` says."""
        skips = []
        for level, block in enumerate(self.encoder):
            x = block(layers.max_pool_2(x) if level else x)
            skips.append(x)
        skips.pop()
        for level, block in enumerate(self.decoder):
            skip = skips.pop()
            pair = (skip, layers.pad_to(self._rise(x, level), skip.shape[1:-1]))
            x = block(jnp.concatenate(pair if self.config.skip_first else pair[::-1], axis=-1))
        x = self.head(x)
        return nnx.relu(x) if self.config.head_relu else x

    def _rise(self, x: jax.Array, level: int) -> jax.Array:
        match self.config.upsample:
            case "bilinear":
                return layers.upsample_2x_bilinear(x)
            case "nearest":
                return layers.upsample_2x_nearest(x)
            case _:
                return self.up[level](x)
