"""The way down and up again that U-Nets of images and of volumes have in common."""

import torch
from torch import nn
from torch.nn import functional


class UShape(nn.Module):
    """Blocks on the way down, with skips to those on the way up; channels first.

    Attributes:
      skip_first: whether the skip's channels come before those from below.
      head_relu: whether logits go through a ReLU.
      encoder, up, decoder, head: made by whoever derives from it; as many of `up` as of `decoder`.
    """

    skip_first: bool = True
    head_relu: bool = False
    encoder: nn.ModuleList
    up: nn.ModuleList
    decoder: nn.ModuleList
    head: nn.Conv2d | nn.Conv3d

    @property
    def device(self) -> torch.device:
        """Where its parameters are, and its inputs must be."""
        return self.head.weight.device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[N, C, *S] -> logits [N, num_logits, *S]; sides are multiples of the stride.

        Computed in the dtype of the parameters; the logits are of the images' dtype.
        """
        halved = functional.max_pool3d if images.ndim == 5 else functional.max_pool2d
        x, skips = images.to(self.head.weight.dtype), []
        for level, block in enumerate(self.encoder):
            x = block(halved(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for rise, block in zip(self.up, self.decoder, strict=True):
            pair = (skips.pop(), rise(x))
            x = block(torch.cat(pair if self.skip_first else pair[::-1], dim=1))
        x = self.head(x).to(images.dtype)
        return functional.relu(x) if self.head_relu else x
