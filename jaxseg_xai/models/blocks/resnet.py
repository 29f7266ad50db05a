"""ResNet (He et al., 2015, arXiv 1512.03385) with dilated last stages, as in segmentation."""

from collections.abc import Sequence

import jax
from flax import nnx

from jaxseg_xai.models.blocks.convolution import conv, conv_norm_names, shortcut
from jaxseg_xai.models.norms import norm_layer
from jaxseg_xai.ops import layers

#: How many times as many channels come out of a bottleneck as its 3x3 convolution has.
EXPANSION = 4
#: Stages that do not dilate: the first keeps the stem's resolution, the second halves it.
_HALVED = 2


def bottleneck_names(theirs: str, ours: str) -> dict[str, str]:
    """Modules of a bottleneck of torchvision -> ours."""
    return {theirs: ours} | conv_norm_names(f"{theirs}.downsample", f"{ours}/downsample")


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions, added to the input or to a 1x1 convolution of it."""

    def __init__(
        self, n_in: int, width: int, rngs: nnx.Rngs, *, stride: int = 1, dilation: int = 1
    ) -> None:
        n_out = EXPANSION * width
        self.conv1 = conv(n_in, width, 1, rngs, use_bias=False)
        self.norm1 = norm_layer("batch", width, rngs)
        self.conv2 = conv(width, width, 3, rngs, stride=stride, dilation=dilation, use_bias=False)
        self.norm2 = norm_layer("batch", width, rngs)
        self.conv3 = conv(width, n_out, 1, rngs, use_bias=False)
        self.norm3 = norm_layer("batch", n_out, rngs)
        self.downsample = shortcut(n_in, n_out, rngs, stride=stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, ceil(H / stride), ceil(W / stride), 4 width]."""
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = nnx.relu(self.norm2(self.conv2(y)))
        return nnx.relu(self.norm3(self.conv3(y)) + self.downsample(x))


class ResNet(nnx.Module):
    """All of a ResNet but its classifier, of 1/8 of the image's size; see `ResNetConfig`."""

    def __init__(
        self,
        in_channels: int,
        stem_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        rngs: nnx.Rngs,
    ) -> None:
        channels = stem_channels
        self.conv1 = conv(in_channels, channels, 7, rngs, stride=2, use_bias=False)
        self.norm1 = norm_layer("batch", channels, rngs)
        stages = []
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stride = 2 if 0 < i < _HALVED else 1
            blocks = []
            for j in range(depth):
                # The first block still has the dilation of the stage before.
                dilation = 2 ** max(0, i - _HALVED + min(j, 1))
                options = {"stride": 1 if j else stride, "dilation": dilation}
                blocks.append(Bottleneck(channels, width, rngs, **options))
                channels = EXPANSION * width
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.out_channels = channels

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> [B, ceil(H / 8), ceil(W / 8), 4 widths[-1]]."""
        x = layers.max_pool(nnx.relu(self.norm1(self.conv1(x))), 3, stride=2, padding=1)
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x
