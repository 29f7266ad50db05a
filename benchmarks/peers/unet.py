"""`jaxseg_xai.models.zoo.unet.UNet` in PyTorch, and our weights in it."""

import copy
import itertools
import math
from typing import Any, cast

import numpy as np
import torch
from flax import nnx
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.peers.u_shape import UShape
from benchmarks.peers.unet3d import TorchUNet3D
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.models.zoo.unet3d import UNet3DConfig

#: Last part of a Flax name -> PyTorch's.
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


class DoubleConv(nn.Module):
    """Twice: 3x3 convolution, normalisation, ReLU; [N, n_in, H, W] -> [N, n_out, H, W]."""

    def __init__(self, n_in: int, n_out: int, config: UNetConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.norm1 = _norm(config, n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.norm2 = _norm(config, n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(x)))


class TorchUNet(UShape):
    """U-Net of any `UNetConfig`, channels first."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config, self.skip_first, self.head_relu = config, config.skip_first, config.head_relu
        channels = (config.in_channels, *config.encoder_channels)
        self.encoder = nn.ModuleList(
            DoubleConv(a, b, config) for a, b in itertools.pairwise(channels)
        )
        below = [config.encoder_channels[-1], *config.decoder_channels[:-1]]
        skips = config.encoder_channels[-2::-1]
        if config.upsample == "transposed":
            # As is usual, a transposed convolution brings the channels down to the skip's.
            pairs, below = zip(below, skips, strict=True), list(skips)
            self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        else:
            corners = {"align_corners": True} if config.upsample == "bilinear" else {}
            rise = nn.Upsample(scale_factor=2, mode=config.upsample, **corners)
            self.up = nn.ModuleList(rise for _ in skips)
        self.decoder = nn.ModuleList(
            DoubleConv(a + s, b, config)
            for a, s, b in zip(below, skips, config.decoder_channels, strict=True)
        )
        last = config.decoder_channels[-1] if skips else config.encoder_channels[-1]
        self.head = nn.Conv2d(last, config.num_logits, 1)


def torch_unet(config: Any, variables: Any) -> Any:
    """The PyTorch U-Net of images or volumes with our weights, in evaluation mode, on the CPU.

    Its parameters require gradients, as PyTorch makes them.
    """
    volumes = isinstance(config, UNet3DConfig)
    model, rank = (TorchUNet3D(config), 3) if volumes else (TorchUNet(config), 2)
    model, space = model.eval(), tuple(range(rank))
    state = {}
    for path, variable in nnx.to_flat_state(variables):
        *module, leaf = map(str, path)
        value = np.asarray(variable[...], np.float32)
        if leaf == "kernel" and module[0] == "up":
            # PyTorch defines it as the gradient of a convolution: in, out, and flipped.
            value = np.flip(value, space).transpose(rank, rank + 1, *space)
        elif leaf == "kernel":
            value = value.transpose(rank + 1, rank, *space)
        state[".".join([*module, _LEAVES.get(leaf, leaf)])] = torch.from_numpy(value.copy())
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict(state | counters)
    return model


def tuned_copy(model: Any) -> Any:
    """A copy made for speed: frozen, channels last, batch norms folded into the convolutions.

    Tried on two cores of an AMD EPYC with PyTorch 2.13 (width 16, 128x128 pixels). Forward and
    backward to the input, 8 images, ms an image: 12.8 like this, 17.2 without folding, 17.8 folded
    but channels first, 19.4 channels first without folding, 19.0 with `torch.compile`. Forward
    alone, 16 images: 6.2 like this, 7.8 without folding; 8 images: 5.5 like this, 25 with
    `torch.compile` and frozen weights. Hence no `torch.compile`, though on a GPU it helps (see
    docs/benchmarks.md).
    """
    dtype = model.head.weight.dtype
    # Folded in float32, so that bfloat16 rounds a weight once.
    model = copy.deepcopy(model).requires_grad_(False).float()
    for block in (*model.encoder, *model.decoder):
        block = cast(DoubleConv, block)
        if isinstance(block.norm1, _BatchNorm) and isinstance(block.norm2, _BatchNorm):
            block.conv1 = fuse_conv_bn_eval(block.conv1, block.norm1)
            block.conv2 = fuse_conv_bn_eval(block.conv2, block.norm2)
            block.norm1, block.norm2 = nn.Identity(), nn.Identity()
    volumes = isinstance(model, TorchUNet3D)
    last = torch.channels_last_3d if volumes else torch.channels_last
    return model.to(dtype=dtype, memory_format=last)  # pyright: ignore[reportCallIssue]


def compiled_copy(model: TorchUNet, mode: str) -> Any:
    """The model through `torch.compile` in a mode; it is called and asked for its device as before.

    Shapes are compiled as they come: the second batch size makes PyTorch compile for any.
    """
    return torch.compile(model, mode=mode)


def class_logits(logits: torch.Tensor) -> torch.Tensor:
    """[N, K, *S] unchanged for K >= 2; one logit z becomes two classes (0, z)."""
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def segment_of(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Where logits [N, K, *S] predict the classes [N], bool [N, *S]."""
    return class_logits(logits).argmax(1) == wanted.reshape(-1, *[1] * (logits.ndim - 2))


def dice(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Of masks or probabilities [N, *S], and one mask [*S] or one for each; [N]."""
    space = tuple(range(1 - found.ndim, 0))
    both = (found * expected).sum(space)
    return 2 * both / (found.sum(space) + expected.sum(space)).clamp(min=1e-7)


def channels_first(images: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """NumPy [N, *S, C] -> contiguous tensor [N, C, *S] on a device."""
    return torch.from_numpy(images).to(device).movedim(-1, 1).contiguous()


def channels_last(images: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """NumPy [N, *S, C] -> tensor [N, C, *S] on a device whose channels lie side by side."""
    tensor = torch.from_numpy(images).to(device).movedim(-1, 1)
    last = torch.channels_last_3d if tensor.ndim == 5 else torch.channels_last
    return tensor.contiguous(memory_format=last)


def _norm(config: UNetConfig, channels: int) -> nn.Module:
    match config.norm:
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            return nn.GroupNorm(math.gcd(config.num_groups, channels), channels)
        case "instance":
            # One group a channel; nn.InstanceNorm2d refuses maps of one pixel.
            return nn.GroupNorm(channels, channels)
        case _:
            return nn.Identity()
