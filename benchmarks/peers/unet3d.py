"""`UNet3D` of `jaxseg_xai.models.zoo.unet3d` in PyTorch, with batch norms."""

import itertools

import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers.u_shape import UShape
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.models.zoo.unet3d import UNet3DConfig


class DoubleConv3D(nn.Module):
    """Twice: 3x3x3 convolution, batch norm, leaky ReLU; [N, n_in, D, H, W] -> [N, n_out, ...]."""

    def __init__(self, n_in: int, n_out: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.conv1 = nn.Conv3d(n_in, n_out, 3, padding=1)
        self.norm1 = nn.BatchNorm3d(n_out)
        self.conv2 = nn.Conv3d(n_out, n_out, 3, padding=1)
        self.norm2 = nn.BatchNorm3d(n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.leaky_relu(self.norm1(self.conv1(x)), self.slope)
        return functional.leaky_relu(self.norm2(self.conv2(x)), self.slope)


class TorchUNet3D(UShape):
    """U-Net of volumes, channels first."""

    def __init__(self, config: UNet3DConfig) -> None:
        super().__init__()
        if (config.norm, config.down, config.upsample) != ("batch", "max_pool", "transposed"):
            raise ConfigError(
                "the peers know the U-Net of volumes with batch norms, max pooling and transposed "
                "convolutions only; use --peer none"
            )
        channels, slope = (config.in_channels, *config.encoder_channels), config.negative_slope
        self.encoder = nn.ModuleList(
            DoubleConv3D(a, b, slope) for a, b in itertools.pairwise(channels)
        )
        skips = config.encoder_channels[-2::-1]
        below = (config.encoder_channels[-1], *config.decoder_channels[:-1])
        pairs = list(zip(below, skips, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose3d(a, b, 2, stride=2) for a, b in pairs)
        self.decoder = nn.ModuleList(
            DoubleConv3D(2 * s, b, slope)
            for s, b in zip(skips, config.decoder_channels, strict=True)
        )
        self.head = nn.Conv3d(config.decoder_channels[-1], config.num_logits, 1)
