"""MobileNetV3 (Howard et al., 2019, arXiv 1905.02244) with dilated last blocks."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxseg_xai.models.blocks.convolution import ConvNorm, conv, identity

#: As `ConvNorm`, with the epsilon that torchvision's MobileNets have.
_ConvNorm = functools.partial(ConvNorm, epsilon=1e-3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockShape:
    """Shape of a block.

    Attributes:
      n_in: channels of the input.
      hidden: channels inside.
      n_out: channels of the output.
      kernel: size of the depthwise convolution.
      stride: of that.
      dilation: of that.
      squeezed: whether channels are weighed by squeeze and excitation.
      hard_swish: whether the activations are hard swishes, not ReLUs.
    """

    n_in: int
    hidden: int
    n_out: int
    kernel: int
    stride: int
    dilation: int
    squeezed: bool
    hard_swish: bool

    def parts(self) -> list[str]:
        """Names of its modules in order."""
        first = ["expand"] * (self.hidden != self.n_in)
        return [*first, "depthwise", *["squeeze"] * self.squeezed, "project"]


class Squeeze(nnx.Module):
    """Squeeze and excitation: every channel times a number in [0, 1] that all pixels set."""

    def __init__(self, channels: int, rngs: nnx.Rngs) -> None:
        width = _eights(channels / 4)
        self.fc1 = conv(channels, width, 1, rngs)
        self.fc2 = conv(width, channels, 1, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, channels] -> the same shape."""
        mean = jnp.mean(x, axis=(1, 2), keepdims=True)
        return x * nnx.hard_sigmoid(self.fc2(nnx.relu(self.fc1(mean))))


def _eights(width: float) -> int:
    """The next multiple of 8, which takes away a tenth at most."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


class InvertedResidual(nnx.Module):
    """A wide depthwise convolution between 1x1 convolutions, added to the input where it fits."""

    def __init__(self, shape: BlockShape, rngs: nnx.Rngs) -> None:
        n_in, hidden, parts = shape.n_in, shape.hidden, shape.parts()
        activation = nnx.hard_swish if shape.hard_swish else nnx.relu
        self.residual = shape.stride == 1 and n_in == shape.n_out
        wide = "expand" in parts
        self.expand = _ConvNorm(n_in, hidden, 1, rngs, activation=activation) if wide else identity
        self.depthwise = _ConvNorm(
            hidden,
            hidden,
            shape.kernel,
            rngs,
            stride=shape.stride,
            dilation=shape.dilation,
            feature_group_count=hidden,
            activation=activation,
        )
        self.squeeze = Squeeze(hidden, rngs) if "squeeze" in parts else identity
        self.project = _ConvNorm(hidden, shape.n_out, 1, rngs, activation=identity)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, ceil(H / stride), ceil(W / stride), n_out]."""
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class MobileNet(nnx.Module):
    """All of a MobileNetV3 but its classifier; see `MobileNetConfig`."""

    def __init__(
        self, in_channels: int, blocks: Sequence[BlockShape], last_channels: int, rngs: nnx.Rngs
    ) -> None:
        swish = functools.partial(_ConvNorm, activation=nnx.hard_swish)
        self.first = swish(in_channels, blocks[0].n_in, 3, rngs, stride=2)
        self.blocks = nnx.List([InvertedResidual(block, rngs) for block in blocks])
        self.last = swish(blocks[-1].n_out, last_channels, 1, rngs)
        self.out_channels = last_channels

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, C] -> [B, H', W', last_channels]."""
        return self.features(x)[-1]

    def features(self, x: jax.Array) -> list[jax.Array]:
        """Images [B, H, W, C] -> what every block makes of them, and the last convolution."""
        x, found = self.first(x), []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return [*found, self.last(x)]
