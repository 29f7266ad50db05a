"""HRNet (Wang et al., 2019, arXiv 1908.07919): branches of several resolutions side by side."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.convolution import ConvNorm, conv, conv_norm_names, identity
from jaxseg_xai.models.blocks.resnet import EXPANSION, Bottleneck, bottleneck_names
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class HRNetConfig(Architecture):
    """Shape of an HRNet; the defaults are PdCR's, which has bottlenecks in every stage.

    Stage s has s branches, each of half the resolution of the one before; the first sees 1/4 of the
    pixels along each axis. Out of every branch come 4 times as many channels as `widths` says.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
      stem_channels: width of the two convolutions at the beginning.
      widths: of every branch.
      first_width: of the bottlenecks of the first stage.
      modules: how often the branches of stages 2, 3, .. exchange what they know.
      depth: blocks of a branch between two exchanges, and of the first stage.

    References:
      Wang et al., arXiv 1908.07919, section 3 (the representation head of figure 4b).
    """

    name: ClassVar[str] = "hrnet"
    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(1, at_least=1)
    stem_channels: int = setting(64, at_least=1)
    widths: tuple[int, ...] = setting((32, 64, 128, 256), at_least=1)
    first_width: int = setting(32, at_least=1)
    modules: tuple[int, ...] = setting((1, 1, 1), at_least=1)
    depth: int = setting(4, at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where the stages do not match."""
        if len(self.modules) != len(self.widths) - 1:
            raise ConfigError(
                f"modules has {len(self.modules)} entries; {len(self.widths)} widths need one fewer"
            )

    def build(self, rngs: nnx.Rngs) -> "HRNet":
        """The network, randomly initialised."""
        return HRNet(self, rngs)

    def input_spec(self) -> InputSpec:
        """Images of any size."""
        return InputSpec(channels=self.in_channels)

    def sites(self) -> Sites:
        """Where the branches come together, of which the logits are a linear map."""
        return Sites(cam_layer="head/conv")

    def torch_names(self) -> dict[str, str]:
        """PdCR's modules -> ours."""
        ours = {
            "conv1": "stem/0/conv",
            "bn1": "stem/0/norm",
            "conv2": "stem/1/conv",
            "bn2": "stem/1/norm",
            "last_layer.0": "head/conv",
            "last_layer.1": "head/norm",
            "last_layer.3": "classifier",
        }
        for k in range(self.depth):
            ours |= bottleneck_names(f"layer1.{k}", f"first/{k}")
        for s, num_modules in enumerate(self.modules):
            stage = f"stages/{s}"
            for i in range(s + 2):
                new = ".0" * (i == s + 1)
                ours |= conv_norm_names(f"transition{s + 1}.{i}{new}", f"{stage}/enter/{i}")
            for m in range(num_modules):
                theirs, name = f"stage{s + 2}.{m}", f"{stage}/modules/{m}"
                for i in range(s + 2):
                    for k in range(self.depth):
                        branch = f"branches.{i}.{k}"
                        ours |= bottleneck_names(
                            f"{theirs}.{branch}", f"{name}/{branch.replace('.', '/')}"
                        )
                    for j in range(s + 2):
                        there, here = f"{theirs}.fuse_layers.{i}.{j}", f"{name}/fuse/{i}/{j}"
                        if j > i:
                            ours |= conv_norm_names(there, f"{here}/0")
                        for k in range(i - j):
                            ours |= conv_norm_names(f"{there}.{k}", f"{here}/{k}")
        return ours


class Exchange(nnx.Module):
    """Bottlenecks in every branch, then every branch gets the sum of all."""

    def __init__(
        self, inputs: Sequence[int], widths: Sequence[int], depth: int, rngs: nnx.Rngs
    ) -> None:
        outputs = [EXPANSION * width for width in widths]
        self.branches = nnx.List(
            [
                nnx.List([Bottleneck(o if k else n, w, rngs) for k in range(depth)])
                for n, w, o in zip(inputs, widths, outputs, strict=True)
            ]
        )
        self.fuse = nnx.List(
            [
                nnx.List([_path(outputs, j, i, rngs) for j in range(len(outputs))])
                for i in range(len(outputs))
            ]
        )

    def __call__(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """[B, H_i, W_i, inputs_i] of every branch -> [B, H_i, W_i, 4 widths_i]."""
        before = [_in_order(branch, x) for branch, x in zip(self.branches, features, strict=True)]
        return [self._sum(i, before) for i in range(len(before))]

    def _sum(self, i: int, before: Sequence[jax.Array]) -> jax.Array:
        size, pairs = before[i].shape[1:3], zip(self.fuse[i], before, strict=True)
        first, *others = [
            layers.resize_linear(_in_order(path, x), size, align_corners=True) for path, x in pairs
        ]
        return nnx.relu(sum(others, start=first))


def _path(widths: Sequence[int], j: int, i: int, rngs: nnx.Rngs) -> nnx.List:
    """Convolutions from branch j to branch i, before what comes from coarser ones is up-sampled."""
    if j >= i:
        near = [ConvNorm(widths[j], widths[i], 1, rngs, activation=identity)]
        return nnx.List(near if j > i else [])
    chain = [ConvNorm(widths[j], widths[j], 3, rngs, stride=2) for _ in range(i - j - 1)]
    last = ConvNorm(widths[j], widths[i], 3, rngs, stride=2, activation=identity)
    return nnx.List([*chain, last])


def _in_order(modules: nnx.List, x: jax.Array) -> jax.Array:
    for module in modules:
        x = module(x)
    return x


class Stage(nnx.Module):
    """One branch more than before, and exchanges."""

    def __init__(
        self,
        inputs: Sequence[int],
        widths: Sequence[int],
        num_modules: int,
        depth: int,
        rngs: nnx.Rngs,
    ) -> None:
        enter = [ConvNorm(n, w, 3, rngs) for n, w in zip(inputs, widths[:-1], strict=True)]
        self.enter = nnx.List([*enter, ConvNorm(inputs[-1], widths[-1], 3, rngs, stride=2)])
        outputs = [EXPANSION * width for width in widths]
        self.modules = nnx.List(
            [Exchange(outputs if m else widths, widths, depth, rngs) for m in range(num_modules)]
        )

    def __call__(self, features: Sequence[jax.Array]) -> list[jax.Array]:
        """[B, H_i, W_i, inputs_i] of every branch -> [B, H_i, W_i, 4 widths_i] of one more."""
        pairs = zip(self.enter, [*features, features[-1]], strict=True)
        found = [enter(x) for enter, x in pairs]
        for module in self.modules:
            found = module(found)
        return found


class HRNet(nnx.Module):
    """HRNet; see `HRNetConfig`."""

    def __init__(self, config: HRNetConfig, rngs: nnx.Rngs) -> None:
        stem, depth = config.stem_channels, config.depth
        self.stem = nnx.List(
            [ConvNorm(n, stem, 3, rngs, stride=2) for n in (config.in_channels, stem)]
        )
        outputs = [EXPANSION * config.first_width]
        self.first = nnx.List(
            [Bottleneck(outputs[0] if k else stem, config.first_width, rngs) for k in range(depth)]
        )
        stages = []
        for s, num_modules in enumerate(config.modules):
            widths = config.widths[: s + 2]
            stages.append(Stage(outputs, widths, num_modules, depth, rngs))
            outputs = [EXPANSION * width for width in widths]
        self.stages = nnx.List(stages)
        self.head = ConvNorm(sum(outputs), sum(outputs), 1, rngs, use_bias=True)
        # Padded, as published: around the features there is one pixel of the bias alone.
        self.classifier = conv(sum(outputs), config.num_logits, 1, rngs, padding=1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]."""
        size = x.shape[1:3]
        features = [_in_order(self.first, _in_order(self.stem, x))]
        for stage in self.stages:
            features = stage(features)
        finest = features[0].shape[1:3]
        levels = [layers.resize_linear(x, finest, align_corners=True) for x in features]
        logits = self.classifier(self.head(jnp.concatenate(levels, axis=-1)))
        return layers.resize_linear(logits, size, align_corners=True)
