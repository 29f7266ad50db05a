"""DeepLabV3 (Chen et al., 2017, arXiv 1706.05587) of torchvision: on ResNet or MobileNetV3."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.blocks.convolution import ConvNorm, conv, conv_norm_names
from jaxseg_xai.models.blocks.mobilenet import MobileNet
from jaxseg_xai.models.blocks.resnet import ResNet
from jaxseg_xai.models.zoo.torchvision import MobileNetConfig, ResNetConfig, TorchvisionConfig
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DeepLabV3Config(TorchvisionConfig):
    """What the two have in common.

    Attributes:
      head_channels: width of every branch of the head, and after them.
      rates: dilations of the head's branches.
    """

    head_channels: int = setting(256, at_least=1)
    rates: tuple[int, ...] = setting((12, 24, 36), at_least=1)

    def sites(self) -> Sites:
        """Where the head's branches come together."""
        return Sites(cam_layer="head/project/conv")

    def torch_names(self) -> dict[str, str]:
        """torchvision's modules -> ours."""
        pooled = len(self.rates) + 1
        ours = {
            f"classifier.0.convs.{pooled}.1": "head/pooled/conv",
            f"classifier.0.convs.{pooled}.2": "head/pooled/norm",
            "classifier.1": "head/last/conv",
            "classifier.2": "head/last/norm",
            "classifier.4": "classifier",
        }
        for i in range(pooled):
            ours |= conv_norm_names(f"classifier.0.convs.{i}", f"head/branches/{i}")
        ours |= conv_norm_names("classifier.0.project", "head/project")
        return {**super().torch_names(), **ours}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepLabV3ResNetConfig(_DeepLabV3Config, ResNetConfig):
    """Shape of a DeepLabV3; the defaults are those of torchvision's `deeplabv3_resnet50`.

    Its `deeplabv3_resnet101` has `depths=(3, 4, 23, 3)`. See `ResNetConfig` for the other settings.

    Attributes:
      head_channels: width of every branch of the head, and after them.
      rates: dilations of the head's branches.

    References:
      Chen et al., arXiv 1706.05587, section 3.3; torchvision 0.29.1 (output stride 8).
    """

    name: ClassVar[str] = "deeplabv3_resnet50"

    def build(self, rngs: nnx.Rngs) -> "DeepLabV3":
        """The network, randomly initialised."""
        return DeepLabV3(self, self.backbone(rngs), rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepLabV3MobileNetConfig(_DeepLabV3Config, MobileNetConfig):
    """Shape of a DeepLabV3; the defaults are torchvision's `deeplabv3_mobilenet_v3_large`.

    See `MobileNetConfig` for the other settings.

    Attributes:
      head_channels: width of every branch of the head, and after them.
      rates: dilations of the head's branches.

    References:
      Chen et al., arXiv 1706.05587, section 3.3; torchvision 0.29.1 (output stride 16).
    """

    name: ClassVar[str] = "deeplabv3_mobilenet_v3_large"

    def build(self, rngs: nnx.Rngs) -> "DeepLabV3":
        """The network, randomly initialised."""
        return DeepLabV3(self, self.backbone(rngs), rngs)


class Head(nnx.Module):
    """Atrous spatial pyramid pooling: convolutions of several dilations and the mean, joined."""

    def __init__(self, config: _DeepLabV3Config, n_in: int, rngs: nnx.Rngs) -> None:
        width = config.head_channels
        branches = [ConvNorm(n_in, width, 1, rngs)]
        branches += [ConvNorm(n_in, width, 3, rngs, dilation=rate) for rate in config.rates]
        self.branches = nnx.List(branches)
        self.pooled = ConvNorm(n_in, width, 1, rngs)
        self.project = ConvNorm(width * (len(branches) + 1), width, 1, rngs)
        self.last = ConvNorm(width, width, 3, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, H, W, head_channels]."""
        found = [branch(x) for branch in self.branches]
        mean = self.pooled(jnp.mean(x, axis=(1, 2), keepdims=True))
        found.append(jnp.broadcast_to(mean, found[0].shape))
        return self.last(self.project(jnp.concatenate(found, axis=-1)))


class DeepLabV3(nnx.Module):
    """DeepLabV3; see `DeepLabV3ResNetConfig` and `DeepLabV3MobileNetConfig`."""

    def __init__(
        self, config: _DeepLabV3Config, backbone: ResNet | MobileNet, rngs: nnx.Rngs
    ) -> None:
        self.backbone = backbone
        self.head = Head(config, backbone.out_channels, rngs)
        self.classifier = conv(config.head_channels, config.num_logits, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]."""
        logits = self.classifier(self.head(self.backbone(x)))
        return layers.resize_linear(logits, x.shape[1:3])
