"""SegNet (Badrinarayanan et al., 2015, arXiv 1511.00561): unpooling to where the maxima were."""

import dataclasses
from typing import ClassVar

import jax
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.norms import norm_layer
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegNetConfig(Architecture):
    """Shape of a SegNet; the defaults, and the names of weights that are read, are those of PdCR.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      channels: width of every resolution, finest first; after each the sides are halved.
      depths: convolutions of every resolution, on the way down and on the way up.

    References:
      Badrinarayanan et al., arXiv 1511.00561, section 3.
    """

    name: ClassVar[str] = "segnet"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    channels: tuple[int, ...] = setting((64, 128, 256, 512, 512), at_least=1)
    depths: tuple[int, ...] = setting((2, 2, 3, 3, 3), at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where the resolutions do not match."""
        if len(self.depths) != len(self.channels):
            raise ConfigError(
                f"depths has {len(self.depths)} entries, channels {len(self.channels)}; give one "
                "per resolution"
            )

    def build(self, rngs: nnx.Rngs) -> "SegNet":
        """The network, randomly initialised."""
        return SegNet(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images whose sides every pooling can halve."""
        return InputSpec(channels=self.in_channels, multiple_of=2 ** len(self.channels))

    def sites(self) -> Sites:
        """The last convolution before the coarsest pooling."""
        return Sites(cam_layer=f"encoder/{len(self.channels) - 1}/{self.depths[-1] - 1}/conv")

    def torch_names(self) -> dict[str, str]:
        """PdCR's modules -> ours: "conv43d" is the first of the fourth resolution upwards."""
        ours = {}
        for i, depth in enumerate(self.depths):
            for j in range(depth):
                here = f"{i + 1}{j + 1}"
                places = {here: f"encoder/{i}/{j}", f"{here}d": f"decoder/{i}/{depth - 1 - j}"}
                for theirs, name in places.items():
                    ours |= {f"conv{theirs}": f"{name}/conv", f"bn{theirs}": f"{name}/norm"}
        return ours


class ConvBlock(nnx.Module):
    """3x3 convolution, normalisation, ReLU; the head is a convolution alone."""

    def __init__(self, n_in: int, n_out: int, rngs: nnx.Rngs, *, head: bool = False) -> None:
        conv = layers.conv_general_dilated
        self.conv = nnx.Conv(n_in, n_out, (3, 3), conv_general_dilated=conv, rngs=rngs)
        self.norm = None if head else norm_layer("batch", n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H, W, n_out]."""
        x = self.conv(x)
        return x if self.norm is None else nnx.relu(self.norm(x))


class SegNet(nnx.Module):
    """SegNet; see `SegNetConfig`."""

    def __init__(self, config: SegNetConfig, rngs: nnx.Rngs) -> None:
        finer = (config.in_channels, *config.channels[:-1])
        encoder, decoder = [], []
        for i, (n, m, depth) in enumerate(zip(finer, config.channels, config.depths, strict=True)):
            down = [n, *[m] * depth]
            up = [*[m] * depth, n if i else config.num_logits]
            encoder.append([ConvBlock(down[j], down[j + 1], rngs) for j in range(depth)])
            decoder.append(
                [
                    ConvBlock(up[j], up[j + 1], rngs, head=not i and j == depth - 1)
                    for j in range(depth)
                ]
            )
        self.encoder = nnx.List([nnx.List(blocks) for blocks in encoder])
        self.decoder = nnx.List([nnx.List(blocks) for blocks in decoder])

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]; H, W as `input_spec` says."""
        maxima = []
        for blocks in self.encoder:
            for block in blocks:
                x = block(x)
            x, choices = layers.max_pool_2_choices(x)
            maxima.append(choices)
        for blocks in reversed(self.decoder):
            x = layers.max_unpool_2(x, maxima.pop())
            for block in blocks:
                x = block(x)
        return x
