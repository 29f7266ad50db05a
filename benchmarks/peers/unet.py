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
from torch.nn.utils.fusion import fuse_conv_bn_eval

from jaxseg_xai.models.zoo.unet import UNetConfig

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


class TorchUNet(nn.Module):
    """U-Net of any `UNetConfig`, channels first."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
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

    @property
    def device(self) -> torch.device:
        """Where its parameters are, and its inputs must be."""
        return self.head.weight.device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, C, H, W] -> logits [N, num_logits, H, W]; H, W multiples of the stride.

        Computed in the dtype of the parameters; the logits are of the images' dtype.
        """
        x, skips = images.to(self.head.weight.dtype), []
        for level, block in enumerate(self.encoder):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for rise, block in zip(self.up, self.decoder, strict=True):
            pair = (skips.pop(), rise(x))
            x = block(torch.cat(pair if self.config.skip_first else pair[::-1], dim=1))
        x = self.head(x).to(images.dtype)
        return functional.relu(x) if self.config.head_relu else x


def torch_unet(config: Any, variables: Any) -> TorchUNet:
    """The PyTorch U-Net with the weights of ours, in evaluation mode, on the CPU.

    Its parameters require gradients, as PyTorch makes them.
    """
    model = TorchUNet(config).eval()
    state = {}
    for path, variable in nnx.to_flat_state(variables):
        *module, leaf = map(str, path)
        value = np.asarray(variable[...], np.float32)
        if leaf == "kernel" and module[0] == "up":
            # PyTorch defines it as the gradient of a convolution: in, out, and flipped.
            value = value[::-1, ::-1].transpose(2, 3, 0, 1)
        elif leaf == "kernel":
            value = value.transpose(3, 2, 0, 1)
        state[".".join([*module, _LEAVES.get(leaf, leaf)])] = torch.from_numpy(value.copy())
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    model.load_state_dict(state | counters)
    return model


def tuned_copy(model: TorchUNet) -> TorchUNet:
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
        if isinstance(block.norm1, nn.BatchNorm2d) and isinstance(block.norm2, nn.BatchNorm2d):
            block.conv1 = fuse_conv_bn_eval(block.conv1, block.norm1)
            block.conv2 = fuse_conv_bn_eval(block.conv2, block.norm2)
            block.norm1, block.norm2 = nn.Identity(), nn.Identity()
    return model.to(dtype=dtype, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def compiled_copy(model: TorchUNet, mode: str) -> Any:
    """The model through `torch.compile` in a mode; it is called and asked for its device as before.

    Shapes are compiled as they come: the second batch size makes PyTorch compile for any.
    """
    return torch.compile(model, mode=mode)


def class_logits(logits: torch.Tensor) -> torch.Tensor:
    """[N, K, H, W] unchanged for K >= 2; one logit z becomes two classes (0, z)."""
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def segment_of(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Where logits [N, K, H, W] predict the classes [N], bool [N, H, W]."""
    return class_logits(logits).argmax(1) == wanted[:, None, None]


def dice(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Of masks or probabilities [N, H, W], and one mask [H, W] or one for each; [N]."""
    both = (found * expected).sum((-2, -1))
    return 2 * both / (found.sum((-2, -1)) + expected.sum((-2, -1))).clamp(min=1e-7)


def channels_first(images: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """NumPy [N, H, W, C] -> contiguous tensor [N, C, H, W] on a device."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous()


def channels_last(images: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """NumPy [N, H, W, C] -> tensor [N, C, H, W] on a device whose channels lie side by side."""
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return tensor.contiguous(memory_format=torch.channels_last)


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
