"""The gradient form of the ATE in PyTorch, one image, one field and one node at a time."""

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers.pdcr import soft_outcomes_of, truth_of
from benchmarks.peers.results import AttributionResult
from benchmarks.peers.unet import TorchUNet, channels_first, class_logits
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import AteGradient


def ate_gradient(
    model: TorchUNet,
    image: np.ndarray,
    target: SegmentTarget,
    fields: np.ndarray,
    settings: AteGradient,
) -> AttributionResult:
    """Effects of all blocks of one image, in points.

    Args:
      model: in evaluation mode, on any device.
      image: float32 [H, W, C], H and W multiples of the block's size.
      target: class, region and reference of the outcome; leaves [H, W].
      fields: float32 [F, H, W, C], the image with every block replaced by a patch.
      settings: of our method; the outcome is the soft Dice.

    Returns:
      The result of one image: the mean effect over the fields, 0 in blocks that touch the region.
    """
    if settings.outcome != "soft_dice":
        raise ValueError(f"outcome={settings.outcome!r}: the peer knows soft_dice")
    x, truth = channels_first(image[None], model.device), truth_of(target, model.device)
    side = settings.block_size
    touched = functional.max_pool2d(truth.region[None].float(), side)
    free = 1 - _painted(touched, side)

    def slope(at: torch.Tensor) -> torch.Tensor:
        at = at.detach().requires_grad_(True)
        return torch.autograd.grad(soft_outcomes_of(model(at), truth).sum(), at)[0]

    places, weights = np.array([0.0]), np.array([1.0])
    if settings.num_nodes > 1:
        places, weights = np.polynomial.legendre.leggauss(settings.num_nodes)
        places, weights = (places + 1) / 2, weights / 2
    effects = []
    for field in channels_first(fields, model.device).split(1):
        step = (field - x) * free
        mean = sum(
            float(w) * slope(x + float(s) * step) for s, w in zip(places, weights, strict=True)
        )
        effects.append(functional.avg_pool2d((mean * step).sum(1), side) * side**2)
    with torch.no_grad():
        segment = (class_logits(model(x)).argmax(1) == truth.class_index) & truth.region
    attribution = _painted(torch.stack(effects).mean(0), side)
    return AttributionResult(attribution=attribution.cpu().numpy(), segment=segment.cpu().numpy())


def _painted(blocks: torch.Tensor, side: int) -> torch.Tensor:
    """[N, rows, columns] -> [N, H, W]."""
    return blocks.repeat_interleave(side, 1).repeat_interleave(side, 2)
