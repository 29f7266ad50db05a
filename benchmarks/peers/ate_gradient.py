"""The gradient form of the ATE in PyTorch, one image, one field and one node at a time."""

import numpy as np
import torch
from torch.nn import functional

from benchmarks.arrays import Arrays, Inputs, stack
from benchmarks.peers.pdcr import soft_outcomes_of, truth_of
from benchmarks.peers.unet import TorchUNet, channels_first, class_logits
from jaxseg_xai.explainers.ate.gradient import AteGradient
from jaxseg_xai.ops.blocks import tile_patches


def original(model: TorchUNet, inputs: Inputs, settings: AteGradient) -> Arrays:
    """Effects of all blocks in points: the mean over the fields; 0 in blocks in the region.

    Args:
      model: in evaluation mode, on any device.
      inputs: H and W are multiples of the block's size; `draws.full` holds the patch in each block
        of each field.
      settings: of our method; the outcome is the soft Dice.
    """
    if settings.outcome != "soft_dice":
        raise ValueError(f"outcome={settings.outcome!r}: the peer knows soft_dice")
    return stack([_one(model, inputs.one(i), settings) for i in range(len(inputs.images))])


def _one(model: TorchUNet, inputs: Inputs, settings: AteGradient) -> dict[str, np.ndarray]:
    assert inputs.draws is not None
    x, truth = channels_first(inputs.images, model.device), truth_of(inputs, model.device)
    side, (patches, _, patch_of) = settings.block_size, inputs.draws
    fields = np.stack([np.asarray(tile_patches(patches[p], x.shape[2:])) for p in patch_of[0].T])
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
        nodes = zip(places, weights, strict=True)
        mean = sum(float(weight) * slope(x + float(place) * step) for place, weight in nodes)
        effects.append(functional.avg_pool2d((mean * step).sum(1), side) * side**2)
    with torch.no_grad():
        segment = (class_logits(model(x)).argmax(1) == truth.class_index) & truth.region
    attribution = _painted(torch.stack(effects).mean(0), side)
    return {"attribution": attribution[0].cpu().numpy(), "segment": segment[0].cpu().numpy()}


def _painted(blocks: torch.Tensor, side: int) -> torch.Tensor:
    """[N, rows, columns] -> [N, H, W]."""
    return blocks.repeat_interleave(side, 1).repeat_interleave(side, 2)
