"""LightM-UNet (Liao et al., 2024, arXiv 2403.05246): a small U-Net of one-way state spaces."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.convolution import conv
from jaxseg_xai.models.blocks.selective_scan import Mamba
from jaxseg_xai.models.norms import layer_norm, norm_layer
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class LightMUNetConfig(Architecture):
    """Shape of a LightM-UNet; the defaults are those of the authors' code and of PdCR.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      width: of the finest resolution; every further one has twice that of the one before.
      depths: blocks of every resolution of the encoder, finest first.
      depths_decoder: blocks of every resolution of the decoder, coarsest first; one entry fewer.
      num_groups: groups of the normalisations (fewer where they do not divide the channels).
      num_states: of every channel of a scan.

    References:
      Liao et al., arXiv 2403.05246, section 3. Compared with PdCR's, commit 6da8b5d1.
    """

    name: ClassVar[str] = "lightmunet"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    width: int = setting(32, at_least=1)
    depths: tuple[int, ...] = setting((1, 2, 2, 4), at_least=0)
    depths_decoder: tuple[int, ...] = setting((1, 1, 1), at_least=1)
    num_groups: int = setting(8, at_least=1)
    num_states: int = setting(16, at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where encoder and decoder do not match."""
        if len(self.depths_decoder) != len(self.depths) - 1:
            raise ConfigError(
                f"depths_decoder has {len(self.depths_decoder)} entries; {len(self.depths)} depths "
                "need one fewer than that"
            )

    def build(self, rngs: nnx.Rngs) -> "LightMUNet":
        """The network, randomly initialised."""
        return LightMUNet(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images whose sides every pooling can halve."""
        return InputSpec(channels=self.in_channels, multiple_of=2 ** len(self.depths_decoder))

    def sites(self) -> Sites:
        """The first layer of the decoder, which sees the coarsest features."""
        return Sites(cam_layer="up/0/reduce" if self.depths_decoder else "first/pointwise")

    def torch_names(self) -> dict[str, str]:
        """Modules of the authors' and of PdCR's code -> ours."""
        ours = _separable_names("convInit", "first")
        for i, depth in enumerate(self.depths):
            ours[f"down_layers.{i}.0.0"] = f"down/{i}/widen"
            for j in range(depth):
                ours[f"down_layers.{i}.{j + 1}"] = f"down/{i}/blocks/{j}"
        for i, depth in enumerate(self.depths_decoder):
            ours[f"up_samples.{i}.0.conv"] = f"up/{i}/reduce"
            for j in range(depth):
                theirs, name = f"up_layers.{i}.{j}", f"up/{i}/blocks/{j}"
                ours |= {theirs: name} | _separable_names(f"{theirs}.conv", f"{name}/conv")
        return ours | {"conv_final.0": "norm"} | _separable_names("conv_final.2", "head")


def _separable_names(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.0.conv": f"{ours}/depthwise", f"{theirs}.1.conv": f"{ours}/pointwise"}


class Separable(nnx.Module):
    """A convolution of every channel by itself, then one of every pixel by itself."""

    def __init__(
        self, n_in: int, n_out: int, size: int, rngs: nnx.Rngs, *, use_bias: bool = False
    ) -> None:
        options = {"use_bias": use_bias}
        self.depthwise = conv(n_in, n_in, size, rngs, feature_group_count=n_in, **options)
        self.pointwise = conv(n_in, n_out, 1, rngs, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H, W, n_out]."""
        return self.pointwise(self.depthwise(x))


class VisionMamba(nnx.Module):
    """A scan over all pixels, row by row, between two LayerNorms that have the same weights."""

    def __init__(self, n_in: int, n_out: int, num_states: int, rngs: nnx.Rngs) -> None:
        self.norm = layer_norm(n_in, rngs)
        self.mamba = Mamba(n_in, rngs, num_states=num_states)
        self.skip_scale = nnx.Param(jnp.ones(1))
        self.proj = nnx.Linear(n_in, n_out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H, W, n_out]."""
        pixels = x.reshape(x.shape[0], -1, x.shape[-1])
        mixed = self.mamba(self.norm(pixels)) + self.skip_scale[...].astype(x.dtype) * pixels
        return self.proj(self.norm(mixed)).reshape(*x.shape[:-1], -1)


class DownBlock(nnx.Module):
    """Two scans, each after normalisation and ReLU, added to the input."""

    def __init__(self, config: LightMUNetConfig, width: int, rngs: nnx.Rngs) -> None:
        self.norm1 = norm_layer("group", width, rngs, num_groups=config.num_groups)
        self.conv1 = VisionMamba(width, width, config.num_states, rngs)
        self.norm2 = norm_layer("group", width, rngs, num_groups=config.num_groups)
        self.conv2 = VisionMamba(width, width, config.num_states, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, width] -> the same shape."""
        y = self.conv1(nnx.relu(self.norm1(x)))
        return x + self.conv2(nnx.relu(self.norm2(y)))


class Down(nnx.Module):
    """The way to one resolution, and its blocks."""

    def __init__(self, config: LightMUNetConfig, level: int, rngs: nnx.Rngs) -> None:
        width = config.width * 2**level
        self.widen = VisionMamba(width // 2, width, config.num_states, rngs) if level else None
        self.blocks = nnx.List(
            [DownBlock(config, width, rngs) for _ in range(config.depths[level])]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, width / 2] -> [B, H / 2, W / 2, width]; the first one keeps the shape."""
        if self.widen is not None:
            x = layers.max_pool_2(self.widen(x))
        for block in self.blocks:
            x = block(x)
        return x


class UpBlock(nnx.Module):
    """A separable convolution between normalisations and ReLUs; the input is added inside."""

    def __init__(self, config: LightMUNetConfig, width: int, rngs: nnx.Rngs) -> None:
        self.norm1 = norm_layer("group", width, rngs, num_groups=config.num_groups)
        self.conv = Separable(width, width, 3, rngs)
        self.skip_scale = nnx.Param(jnp.ones(1))
        self.norm2 = norm_layer("group", width, rngs, num_groups=config.num_groups)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, width] -> the same shape."""
        y = self.conv(nnx.relu(self.norm1(x))) + self.skip_scale[...].astype(x.dtype) * x
        return nnx.relu(self.norm2(y))


class Up(nnx.Module):
    """The way to one finer resolution, and its blocks."""

    def __init__(self, config: LightMUNetConfig, width: int, depth: int, rngs: nnx.Rngs) -> None:
        self.reduce = conv(2 * width, width, 1, rngs, use_bias=False)
        self.blocks = nnx.List([UpBlock(config, width, rngs) for _ in range(depth)])

    def __call__(self, x: jax.Array, skip: jax.Array) -> jax.Array:
        """[B, H, W, 2 width] and the encoder's [B, 2 H, 2 W, width] -> the latter's shape."""
        x = layers.resize_linear(self.reduce(x), skip.shape[1:3]) + skip
        for block in self.blocks:
            x = block(x)
        return x


class LightMUNet(nnx.Module):
    """LightM-UNet; see `LightMUNetConfig`."""

    def __init__(self, config: LightMUNetConfig, rngs: nnx.Rngs) -> None:
        self.first = Separable(config.in_channels, config.width, 3, rngs)
        self.down = nnx.List([Down(config, level, rngs) for level in range(len(config.depths))])
        widths = [config.width * 2**level for level in reversed(range(len(config.depths) - 1))]
        self.up = nnx.List(
            [
                Up(config, width, depth, rngs)
                for width, depth in zip(widths, config.depths_decoder, strict=True)
            ]
        )
        self.norm = norm_layer("group", config.width, rngs, num_groups=config.num_groups)
        self.head = Separable(config.width, config.num_logits, 1, rngs, use_bias=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]; H, W as `input_spec` says."""
        x, skips = self.first(x), []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for stage in self.up:
            x = stage(x, skips.pop())
        return self.head(nnx.relu(self.norm(x)))
