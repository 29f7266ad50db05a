"""U-Net++ (Zhou et al., 2018, arXiv 1807.10165) on a small ResNet, as PdCR has it."""

import dataclasses
import itertools
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
from jaxseg_xai.models.blocks.convolution import ConvNorm, conv
from jaxseg_xai.models.norms import norm_layer
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetPPConfig(Architecture):
    """Shape of a U-Net++; the defaults are PdCR's, with a ResNet-34 as encoder.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      channels: width of the stem, which sees half of the pixels along each axis, and of every stage
        of the encoder, each of which halves them again.
      depths: blocks of every stage.

    References:
      Zhou et al., arXiv 1807.10165, section 3.
    """

    name: ClassVar[str] = "unetpp"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    channels: tuple[int, ...] = setting((64, 64, 128, 256, 512), at_least=2)
    depths: tuple[int, ...] = setting((3, 4, 6, 3), at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where the stages do not match."""
        if not 0 < len(self.depths) == len(self.channels) - 1:
            raise ConfigError(
                f"depths has {len(self.depths)} entries, channels {len(self.channels)}; give one "
                "depth per stage, and the stem's channels before those of the stages"
            )

    def build(self, rngs: nnx.Rngs) -> "UNetPP":
        """The network, randomly initialised."""
        return UNetPP(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images whose sides the stem and every stage can halve."""
        return InputSpec(channels=self.in_channels, multiple_of=2 ** len(self.channels))

    def sites(self) -> Sites:
        """The last convolution of the encoder."""
        return Sites(cam_layer=f"stages/{len(self.depths) - 1}/{self.depths[-1] - 1}/conv2")

    def torch_names(self) -> dict[str, str]:
        """PdCR's modules -> ours."""
        ours = {"firstconv": "conv1", "firstbn": "norm1"}
        for i, depth in enumerate(self.depths):
            ours[f"logit{i + 1}"] = f"logits/{i}"
            ours |= basic_names(f"encoder{i + 1}", f"stages/{i}", depth)
            for j in range(1, len(self.channels) - i):
                for k in range(3):
                    place = f"decoder/{i}/{j - 1}/layers/{k}"
                    ours[f"decoder{i}_{j}.conv{k + 1}"] = f"{place}/conv"
                    ours[f"decoder{i}_{j}.norm{k + 1}"] = f"{place}/norm"
        return ours


class Node(nnx.Module):
    """Three 3x3 convolutions, the first two to half of the channels."""

    def __init__(self, n_in: int, n_out: int, rngs: nnx.Rngs) -> None:
        widths = (n_in, n_out // 2, n_out // 2, n_out)
        pairs = itertools.pairwise(widths)
        self.layers = nnx.List([ConvNorm(a, b, 3, rngs) for a, b in pairs])

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H, W, n_out]."""
        for layer in self.layers:
            x = layer(x)
        return x


class UNetPP(nnx.Module):
    """U-Net++; see `UNetPPConfig`."""

    def __init__(self, config: UNetPPConfig, rngs: nnx.Rngs) -> None:
        widths = config.channels
        self.conv1 = conv(config.in_channels, widths[0], 7, rngs, stride=2, use_bias=False)
        self.norm1 = norm_layer("batch", widths[0], rngs)
        # The max-pooling before the first stage has halved the sides already.
        pairs = zip(itertools.pairwise(widths), config.depths, strict=True)
        stages = [
            basic_stage(*pair, depth, rngs, stride=2 if i else 1)
            for i, (pair, depth) in enumerate(pairs)
        ]
        self.stages = nnx.List(stages)
        rows = []
        for i in range(len(config.depths)):
            # Column j of row i is as wide as the encoder's row i + j - 1.
            columns = range(1, len(widths) - i)
            same = [widths[i], *[widths[i + j - 1] for j in columns]]
            below = [widths[i + 1], *[widths[i + j] for j in columns]]
            rows.append(
                nnx.List(
                    [Node(sum(same[:j]) + below[j - 1], widths[i + j - 1], rngs) for j in columns]
                )
            )
        self.decoder = nnx.List(rows)
        self.logits = nnx.List([conv(n, config.num_logits, 1, rngs) for n in widths[:-1]])
        self.mix = nnx.Param(jnp.ones(len(widths)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]; H, W as `input_spec` says."""
        size = x.shape[1:3]
        x = nnx.relu(self.norm1(self.conv1(x)))
        rows = [[x]]
        x = layers.max_pool(x, 3, stride=2, padding=1)
        for stage in self.stages:
            for block in stage:
                x = block(x)
            rows.append([x])
        for j in range(1, len(rows)):
            for i in range(len(rows) - j):
                risen = layers.upsample_2x_nearest(rows[i + 1][j - 1])
                rows[i].append(self.decoder[i][j - 1](jnp.concatenate([*rows[i], risen], axis=-1)))
        # The first entry of `mix` is nowhere used; it stands in the published weights.
        mix = self.mix[1:].astype(x.dtype)
        pairs = zip(self.logits, rows[0][1:], strict=True)
        total = sum(share * head(found) for share, (head, found) in zip(mix, pairs, strict=True))
        return layers.resize_linear(jnp.asarray(total), size)
