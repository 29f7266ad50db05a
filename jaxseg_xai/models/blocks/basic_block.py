"""The block of small ResNets (He et al., 2015, arXiv 1512.03385): two 3x3 convolutions."""

import jax
from flax import nnx

from jaxseg_xai.models.blocks.convolution import conv, conv_norm_names, shortcut
from jaxseg_xai.models.norms import norm_layer


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions, added to the input or to a 1x1 convolution of it."""

    def __init__(self, n_in: int, n_out: int, rngs: nnx.Rngs, *, stride: int = 1) -> None:
        self.conv1 = conv(n_in, n_out, 3, rngs, stride=stride, use_bias=False)
        self.norm1 = norm_layer("batch", n_out, rngs)
        self.conv2 = conv(n_out, n_out, 3, rngs, use_bias=False)
        self.norm2 = norm_layer("batch", n_out, rngs)
        self.downsample = shortcut(n_in, n_out, rngs, stride=stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, n_in] -> [B, ceil(H / stride), ceil(W / stride), n_out]."""
        y = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(self.norm2(self.conv2(y)) + self.downsample(x))


def basic_stage(n_in: int, n_out: int, depth: int, rngs: nnx.Rngs, *, stride: int = 1) -> nnx.List:
    """Blocks of which the first changes channels and resolution, each [B, H, W, C] -> the same."""
    first = BasicBlock(n_in, n_out, rngs, stride=stride)
    return nnx.List([first, *(BasicBlock(n_out, n_out, rngs) for _ in range(depth - 1))])


def basic_names(theirs: str, ours: str, depth: int) -> dict[str, str]:
    """Modules of such a stage of torchvision -> ours."""
    names = {theirs: ours}
    for i in range(depth):
        names |= conv_norm_names(f"{theirs}.{i}.downsample", f"{ours}/{i}/downsample")
    return names
