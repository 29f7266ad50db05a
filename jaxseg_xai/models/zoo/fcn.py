"""FCN (Long et al., 2014, arXiv 1411.4038) on a dilated ResNet, as torchvision has it."""

import dataclasses
from typing import ClassVar

import jax
from flax import nnx

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.blocks.convolution import ConvNorm, conv
from jaxseg_xai.models.zoo.torchvision import ResNetConfig
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class FCNConfig(ResNetConfig):
    """Shape of an FCN; the defaults are those of torchvision's `fcn_resnet50`.

    Attributes:
      head_channels: width of the head.

    See `ResNetConfig` for the others.

    References:
      Long et al., arXiv 1411.4038, section 3; torchvision 0.29.1 (dilated, no skip connections).
    """

    name: ClassVar[str] = "fcn_resnet50"
    head_channels: int = setting(512, at_least=1)

    def build(self, rngs: nnx.Rngs) -> "FCN":
        """The network, randomly initialised."""
        return FCN(self, rngs)

    def sites(self) -> Sites:
        """The head's convolution, of which the logits are a linear map."""
        return Sites(cam_layer="head/conv")

    def torch_names(self) -> dict[str, str]:
        """torchvision's modules -> ours."""
        head = {"classifier.0": "head/conv", "classifier.1": "head/norm"}
        return super().torch_names() | head | {"classifier.4": "classifier"}


class FCN(nnx.Module):
    """FCN; see `FCNConfig`."""

    def __init__(self, config: FCNConfig, rngs: nnx.Rngs) -> None:
        self.backbone = config.backbone(rngs)
        self.head = ConvNorm(self.backbone.out_channels, config.head_channels, 3, rngs)
        self.classifier = conv(config.head_channels, config.num_logits, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]."""
        logits = self.classifier(self.head(self.backbone(x)))
        return layers.resize_linear(logits, x.shape[1:3])
