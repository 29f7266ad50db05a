"""A network of patches on whole volumes in PyTorch, as `jaxseg_xai.ops.sliding` has it."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from jaxseg_xai.ops.sliding import SlidingWindow, gaussian, tile_starts


class Sliding(nn.Module):
    """Volumes [N, C, *S] -> logits [N, K, *S], S not smaller than a patch.

    With a region bool [*S] only the patches that see some of it are evaluated, as an expert would
    who asks for nothing else; what no patch sees is 0.
    """

    def __init__(self, network: nn.Module, model: SlidingWindow, region: np.ndarray | None) -> None:
        super().__init__()
        self.network, self.patch, self.region = network, model.patch, region
        self.weight = torch.from_numpy(gaussian(model.patch)).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where its parameters are, and its inputs must be."""
        return self.network.device  # pyright: ignore[reportReturnType]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        total, weights = None, torch.zeros(images.shape[2:], device=images.device)
        for place in self._places(images.shape[2:]):
            logits = self.network(images[:, :, *place])
            if total is None:
                total = images.new_zeros((len(images), logits.shape[1], *images.shape[2:]))
            total[:, :, *place] += logits * self.weight
            weights[*place] += self.weight
        assert total is not None
        return total / torch.where(weights > 0, weights, 1.0)

    def _places(self, size: Sequence[int]) -> list[tuple[slice, ...]]:
        starts = map(tile_starts, size, self.patch)
        places = [
            tuple(slice(a, a + n) for a, n in zip(corner, self.patch, strict=True))
            for corner in itertools.product(*starts)
        ]
        return [p for p in places if self.region is None or self.region[p].any()]
