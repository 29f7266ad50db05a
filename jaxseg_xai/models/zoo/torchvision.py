"""What torchvision's networks for segmentation have in common: their settings and backbones."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.models.architecture import Architecture
from jaxseg_xai.models.blocks.convolution import conv_norm_names
from jaxseg_xai.models.blocks.mobilenet import BlockShape, MobileNet
from jaxseg_xai.models.blocks.resnet import ResNet, bottleneck_names


@dataclasses.dataclass(frozen=True, kw_only=True)
class TorchvisionConfig(Architecture):
    """Settings of a network of torchvision: images of any size, 21 classes.

    Attributes:
      in_channels: channels of the image.
      num_logits: channels of the output.
    """

    in_channels: int = setting(3, at_least=1)
    num_logits: int = setting(21, at_least=1)

    def input_spec(self) -> InputSpec:
        """Images of any size."""
        return InputSpec(channels=self.in_channels)

    def translate(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The auxiliary head, for training only, goes."""
        return {k: v for k, v in arrays.items() if not k.startswith("aux_classifier.")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig(TorchvisionConfig):
    """Settings of a network on a ResNet; the defaults are a ResNet-50.

    Attributes:
      stem_channels: width of the first convolution.
      widths: of the 3x3 convolutions of every stage; 4 times as many channels come out. The first
        stage sees 1/4 of the pixels along each axis, all others 1/8, and dilate from the third on.
      depths: blocks of every stage; (3, 4, 23, 3) is a ResNet-101.
    """

    stem_channels: int = setting(64, at_least=1)
    widths: tuple[int, ...] = setting((64, 128, 256, 512), at_least=1)
    depths: tuple[int, ...] = setting((3, 4, 6, 3), at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where the stages do not match."""
        if len(self.widths) != len(self.depths):
            raise ConfigError(
                f"depths has {len(self.depths)} entries, widths {len(self.widths)}; give one per "
                "stage"
            )

    def backbone(self, rngs: nnx.Rngs) -> ResNet:
        """Randomly initialised."""
        return ResNet(self.in_channels, self.stem_channels, self.widths, self.depths, rngs)

    def torch_names(self) -> dict[str, str]:
        """Modules of torchvision's backbone -> ours."""
        ours = {"backbone.bn1": "backbone/norm1"}
        for i, depth in enumerate(self.depths):
            for j in range(depth):
                theirs = f"backbone.layer{i + 1}.{j}"
                ours |= bottleneck_names(theirs, f"backbone/stages/{i}/{j}")
        return ours


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNetConfig(TorchvisionConfig):
    """Settings of a network on a MobileNetV3; the defaults are the large one.

    Attributes:
      stem_channels: width of the first convolution, of stride 2.
      kernels: size of the depthwise convolution of every block.
      hidden: width of every block inside.
      widths: of what comes out of every block.
      strides: of every block; where an image classifier's fourth block of stride 2 is, these have
        dilations.
      dilations: of every block.
      squeezed: whether a block weighs its channels by squeeze and excitation.
      num_relu: how many blocks, the first ones, have ReLUs; later ones have hard swishes.
      last_channels: width of the last convolution.
    """

    stem_channels: int = setting(16, at_least=1)
    kernels: tuple[int, ...] = setting((3,) * 3 + (5,) * 3 + (3,) * 6 + (5,) * 3, at_least=1)
    hidden: tuple[int, ...] = setting(
        (16, 64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960), at_least=1
    )
    widths: tuple[int, ...] = setting(
        (16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160), at_least=1
    )
    strides: tuple[int, ...] = setting((1, 2, 1, 2, 1, 1, 2, *(1,) * 8), at_least=1, at_most=2)
    dilations: tuple[int, ...] = setting((1,) * 12 + (2,) * 3, at_least=1)
    squeezed: tuple[bool, ...] = (False,) * 3 + (True,) * 3 + (False,) * 4 + (True,) * 5
    num_relu: int = setting(6, at_least=0)
    last_channels: int = setting(960, at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where the blocks do not match."""
        num_blocks = len(self.widths)
        for field in ("kernels", "hidden", "strides", "dilations", "squeezed"):
            if (found := len(getattr(self, field))) != num_blocks:
                raise ConfigError(
                    f"{field} has {found} entries, widths {num_blocks}; give one per block"
                )
        if even := [size for size in self.kernels if size % 2 == 0]:
            raise ConfigError(f"kernels has {even[0]}; give odd sizes")

    def blocks(self) -> list[BlockShape]:
        """Of the backbone, finest first."""
        return [
            BlockShape(
                n_in=n_in,
                hidden=self.hidden[i],
                n_out=self.widths[i],
                kernel=self.kernels[i],
                stride=self.strides[i],
                dilation=self.dilations[i],
                squeezed=self.squeezed[i],
                hard_swish=i >= self.num_relu,
            )
            for i, n_in in enumerate((self.stem_channels, *self.widths[:-1]))
        ]

    def backbone(self, rngs: nnx.Rngs) -> MobileNet:
        """Randomly initialised."""
        return MobileNet(self.in_channels, self.blocks(), self.last_channels, rngs)

    def torch_names(self) -> dict[str, str]:
        """Modules of torchvision's backbone -> ours."""
        ours = conv_norm_names("backbone.0", "backbone/first")
        ours |= conv_norm_names(f"backbone.{len(self.widths) + 1}", "backbone/last")
        for i, block in enumerate(self.blocks()):
            for j, part in enumerate(block.parts()):
                theirs, name = f"backbone.{i + 1}.block.{j}", f"backbone/blocks/{i}/{part}"
                ours |= {theirs: name} if part == "squeeze" else conv_norm_names(theirs, name)
        return ours
