"""Lite R-ASPP (Howard et al., 2019, arXiv 1905.02244) on a MobileNetV3, as torchvision has it."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.models.blocks.convolution import ConvNorm, conv, conv_norm_names
from jaxseg_xai.models.zoo.torchvision import MobileNetConfig
from jaxseg_xai.ops import layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class LRASPPConfig(MobileNetConfig):
    """Shape of a Lite R-ASPP; the defaults are torchvision's `lraspp_mobilenet_v3_large`.

    See `MobileNetConfig` for the other settings.

    Attributes:
      head_channels: width of the head.

    References:
      Howard et al., arXiv 1905.02244, section 6.4 and figure 10; torchvision 0.29.1.
    """

    name: ClassVar[str] = "lraspp_mobilenet_v3_large"
    head_channels: int = setting(128, at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where the blocks do not match, or there are no finer features."""
        super().check_together()
        if self.strides.count(2) < 2:
            raise ConfigError("strides has fewer than two 2s; the head takes features of 1/8")

    def build(self, rngs: nnx.Rngs) -> "LRASPP":
        """The network, randomly initialised."""
        return LRASPP(self, rngs)

    def sites(self) -> Sites:
        """The last layer of the encoder."""
        return Sites(cam_layer="backbone/last/conv")

    def low(self) -> int:
        """The block whose features the head takes beside the last: the first of 1/8 the size."""
        return [i for i, stride in enumerate(self.strides) if stride == 2][1]

    def torch_names(self) -> dict[str, str]:
        """torchvision's modules -> ours."""
        ours = super().torch_names() | conv_norm_names("classifier.cbr", "head/project")
        return ours | {
            "classifier.scale.1": "head/gate",
            "classifier.low_classifier": "head/low",
            "classifier.high_classifier": "head/high",
        }


class Head(nnx.Module):
    """Coarse features, each channel weighed by the mean of all pixels, and finer ones."""

    def __init__(self, config: LRASPPConfig, rngs: nnx.Rngs) -> None:
        n_in, width = config.last_channels, config.head_channels
        self.project = ConvNorm(n_in, width, 1, rngs)
        self.gate = conv(n_in, width, 1, rngs, use_bias=False)
        self.low = conv(config.widths[config.low()], config.num_logits, 1, rngs)
        self.high = conv(width, config.num_logits, 1, rngs)

    def __call__(self, low: jax.Array, high: jax.Array) -> jax.Array:
        """[B, h, w, C] and [B, h', w', last_channels] -> logits [B, h, w, num_logits]."""
        gate = nnx.sigmoid(self.gate(jnp.mean(high, axis=(1, 2), keepdims=True)))
        high = layers.resize_linear(self.project(high) * gate, low.shape[1:3])
        return self.low(low) + self.high(high)


class LRASPP(nnx.Module):
    """Lite R-ASPP; see `LRASPPConfig`."""

    def __init__(self, config: LRASPPConfig, rngs: nnx.Rngs) -> None:
        self.low = config.low()
        self.backbone = config.backbone(rngs)
        self.head = Head(config, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, H, W, num_logits]."""
        features = self.backbone.features(x)
        logits = self.head(features[self.low], features[-1])
        return layers.resize_linear(logits, x.shape[1:3])
