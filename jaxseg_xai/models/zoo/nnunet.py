"""The networks of nnU-Net (Isensee et al., 2021, arXiv 1904.08128), of images or volumes."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.convolution import ConvTranspose, identity
from jaxseg_xai.models.norms import norm_layer
from jaxseg_xai.ops import layers

Sides = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NNUNetConfig(Architecture):
    """Shape of nnU-Net v2's `PlainConvUNet` or `ResidualEncoderUNet`, as its plans.json says it.

    Fields are named as in `arch_kwargs` there; the defaults are a usual plan of volumes.

    Attributes:
      rank: 2 for images, 3 for volumes.
      in_channels: channels of the image.
      num_logits: channels of the output.
      features_per_stage: width of every resolution, finest first.
      kernel_sizes: of the convolutions of every resolution, one odd number per axis.
      strides: by how much every resolution is coarser than the one before, one number per axis.
      n_conv_per_stage: convolutions of every resolution of a plain encoder.
      n_blocks_per_stage: residual blocks of every resolution; () is a plain encoder.
      n_conv_per_stage_decoder: convolutions of every resolution on the way up, coarsest first.
      conv_bias: whether the convolutions have a bias.
      eps: added to the variance by the instance normalisation.

    References:
      Isensee et al., arXiv 1904.08128; of the residual encoders arXiv 2404.09556. Compared with
      dynamic-network-architectures 0.4.4.
    """

    name: ClassVar[str] = "nnunet"
    rank: Literal[2, 3] = 3
    in_channels: int = setting(1, at_least=1)
    num_logits: int = setting(2, at_least=1)
    features_per_stage: tuple[int, ...] = setting((32, 64, 128, 256, 320, 320), at_least=1)
    kernel_sizes: tuple[Sides, ...] = ((3, 3, 3),) * 6
    strides: tuple[Sides, ...] = ((1, 1, 1),) + ((2, 2, 2),) * 5
    n_conv_per_stage: tuple[int, ...] = setting((2,) * 6, at_least=1)
    n_blocks_per_stage: tuple[int, ...] = setting((), at_least=1)
    n_conv_per_stage_decoder: tuple[int, ...] = setting((2,) * 5, at_least=1)
    conv_bias: bool = True
    eps: float = setting(1e-5, above=0)

    def check_together(self) -> None:
        """Raise `ConfigError` where resolutions or axes do not match."""
        stages = len(self.features_per_stage)
        lengths = {
            "kernel_sizes": stages,
            "strides": stages,
            self._of_encoder: stages,
            "n_conv_per_stage_decoder": stages - 1,
        }
        for name, wanted in lengths.items():
            if len(getattr(self, name)) != wanted or stages < 2:
                raise ConfigError(
                    f"{name} has {len(getattr(self, name))} entries, features_per_stage {stages}; "
                    f"give two stages at least, and {wanted} entries"
                )
        for name, odd in (("kernel_sizes", True), ("strides", False)):
            for sides in getattr(self, name):
                if len(sides) != self.rank or any(n < 1 or (odd and n % 2 == 0) for n in sides):
                    raise ConfigError(
                        f"{name} holds {sides}; give {self.rank} {'odd ' * odd}numbers of at least "
                        "1 for every stage"
                    )

    @property
    def depths(self) -> tuple[int, ...]:
        """Convolutions or residual blocks of every resolution of the encoder."""
        return getattr(self, self._of_encoder)

    @property
    def _of_encoder(self) -> str:
        return "n_blocks_per_stage" if self.n_blocks_per_stage else "n_conv_per_stage"

    def build(self, rngs: nnx.Rngs) -> "NNUNet":
        """The network, randomly initialised."""
        return NNUNet(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images whose sides all strides of any axis divide."""
        totals = [math.prod(axis) for axis in zip(*self.strides, strict=True)]
        return InputSpec(rank=self.rank, channels=self.in_channels, multiple_of=math.lcm(*totals))

    def sites(self) -> Sites:
        """The last convolution of the bottleneck, from where class activation maps are taken."""
        last = "conv2/conv" if self.n_blocks_per_stage else "conv"
        return Sites(cam_layer=f"encoder/{len(self.depths) - 1}/{self.depths[-1] - 1}/{last}")

    def torch_names(self) -> dict[str, str]:
        """Modules of `PlainConvUNet` and `ResidualEncoderUNet` -> ours."""
        ours = {
            "encoder.stem.convs": "stem",
            "decoder.transpconvs": "up",
            f"decoder.seg_layers.{len(self.depths) - 2}": "head",
        }
        for i, depth in enumerate(self.depths):
            if self.n_blocks_per_stage:
                ours[f"encoder.stages.{i}.blocks"] = f"encoder/{i}"
            else:
                ours[f"encoder.stages.{i}.0.convs"] = f"encoder/{i}"
            if i:
                ours[f"decoder.stages.{i - 1}.convs"] = f"decoder/{i - 1}"
            for j in range(depth if self.n_blocks_per_stage else 0):
                # Behind the average pool of a strided block.
                place = int(j == 0 and max(self.strides[i]) > 1)
                ours[f"encoder.stages.{i}.blocks.{j}.skip.{place}"] = f"encoder/{i}/{j}/skip"
        return ours

    def translate(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Without what stands there twice, and without the heads of the coarser resolutions."""
        last = f"decoder.seg_layers.{len(self.depths) - 2}."
        return {
            name: value
            for name, value in arrays.items()
            if ".all_modules." not in name
            and not name.startswith("decoder.encoder.")
            and (name.startswith(last) or not name.startswith("decoder.seg_layers."))
        }


class ConvNorm(nnx.Module):
    """Convolution, instance normalisation, and a leaky ReLU or none."""

    def __init__(
        self,
        config: NNUNetConfig,
        n_in: int,
        n_out: int,
        kernel: Sides,
        rngs: nnx.Rngs,
        *,
        strides: Sides | int = 1,
        use_bias: bool | None = None,
        activation: Callable[[jax.Array], jax.Array] = nnx.leaky_relu,  # of slope 0.01
    ) -> None:
        self.conv = nnx.Conv(
            n_in,
            n_out,
            kernel,
            strides=strides,
            padding=tuple((k // 2, k // 2) for k in kernel),
            use_bias=config.conv_bias if use_bias is None else use_bias,
            conv_general_dilated=layers.conv_general_dilated,
            rngs=rngs,
        )
        self.norm = norm_layer("instance", n_out, rngs, epsilon=config.eps)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, *S, n_in] -> [B, *ceil(S / strides), n_out]."""
        return self.activation(self.norm(self.conv(x)))


def _projection(
    config: NNUNetConfig, n_in: int, n_out: int, rngs: nnx.Rngs
) -> Callable[[jax.Array], jax.Array]:
    if n_in == n_out:
        return identity
    one = (1,) * config.rank
    return ConvNorm(config, n_in, n_out, one, rngs, use_bias=False, activation=identity)


class Residual(nnx.Module):
    """Two convolutions, added to the input, which is pooled and projected where its shape changes.

    Attributes:
      strides: of the first convolution and of the pool, one number per axis.
    """

    def __init__(
        self,
        config: NNUNetConfig,
        n_in: int,
        n_out: int,
        kernel: Sides,
        rngs: nnx.Rngs,
        *,
        strides: Sides,
    ) -> None:
        self.strides = strides
        self.conv1 = ConvNorm(config, n_in, n_out, kernel, rngs, strides=strides)
        self.conv2 = ConvNorm(config, n_out, n_out, kernel, rngs, activation=identity)
        self.skip = _projection(config, n_in, n_out, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, *S, n_in] -> [B, *S / strides, n_out]."""
        return nnx.leaky_relu(self.conv2(self.conv1(x)) + self.skip(_mean_pool(x, self.strides)))


def _mean_pool(x: jax.Array, strides: Sequence[int]) -> jax.Array:
    """The mean of every window of `strides`, axis by axis: [B, *S, C] -> [B, *S / strides, C]."""
    for axis, stride in enumerate(strides, 1):
        end = x.shape[axis] // stride * stride
        taps = [lax.slice_in_dim(x, i, end, stride=stride, axis=axis) for i in range(stride)]
        x = sum(taps[1:], taps[0]) / stride
    return x


def _stack(
    config: NNUNetConfig,
    widths: Sequence[int],
    kernel: Sides,
    rngs: nnx.Rngs,
    strides: Sides,
    block: type[ConvNorm] | type[Residual] = ConvNorm,
) -> nnx.List:
    """Blocks of which the first has the strides; `widths` are those of all inputs and outputs."""
    one = (1,) * config.rank
    return nnx.List(
        [
            block(config, a, b, kernel, rngs, strides=one if i else strides)
            for i, (a, b) in enumerate(itertools.pairwise(widths))
        ]
    )


class NNUNet(nnx.Module):
    """An nnU-Net; see `NNUNetConfig`."""

    def __init__(self, config: NNUNetConfig, rngs: nnx.Rngs) -> None:
        features, one = config.features_per_stage, (1,) * config.rank
        residual = bool(config.n_blocks_per_stage)
        widths = (config.in_channels, *([features[0]] if residual else []))
        stem = _stack(config, widths, config.kernel_sizes[0], rngs, one)
        self.stem = stem
        encoder, below = [], widths[-1]
        for width, depth, kernel, strides in zip(
            features, config.depths, config.kernel_sizes, config.strides, strict=True
        ):
            block = Residual if residual else ConvNorm
            widths = (below, *[width] * depth)
            encoder.append(_stack(config, widths, kernel, rngs, strides, block))
            below = width
        self.encoder = nnx.List(encoder)
        up, decoder = [], []
        for i, depth in enumerate(config.n_conv_per_stage_decoder):
            level = len(features) - 2 - i
            width, strides = features[level], config.strides[level + 1]
            up.append(
                ConvTranspose(
                    below,
                    width,
                    strides,
                    strides=strides,
                    padding="VALID",
                    use_bias=config.conv_bias,
                    rngs=rngs,
                )
            )
            widths = (2 * width, *[width] * depth)
            decoder.append(_stack(config, widths, config.kernel_sizes[level], rngs, one))
            below = width
        self.up, self.decoder = nnx.List(up), nnx.List(decoder)
        self.head = nnx.Conv(
            below,
            config.num_logits,
            one,
            conv_general_dilated=layers.conv_general_dilated,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, *S, C] -> logits [B, *S, num_logits]; S as `input_spec` says."""
        for block in self.stem:
            x = block(x)
        skips = []
        for stage in self.encoder:
            for block in stage:
                x = block(x)
            skips.append(x)
        skips.pop()
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = jnp.concatenate([up(x), skips.pop()], axis=-1)
            for block in stage:
                x = block(x)
        return self.head(x)
