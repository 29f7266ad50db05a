"""Captum's own methods, where it is installed (`pip install captum`): nothing here needs it."""

import importlib.util
import sys

import numpy as np
import torch

from benchmarks.arrays import Arrays, Inputs, stack
from benchmarks.peers.pdcr import outcomes_of, truth_of
from benchmarks.peers.running import classes_of, one_by_one
from benchmarks.peers.unet import TorchUNet, channels_first, class_logits, segment_of
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients


def has_captum() -> bool:
    """Whether Captum is there to compare with; says so if it is not."""
    found = importlib.util.find_spec("captum") is not None
    if not found:
        print("captum is not installed, so it is left out (pip install captum)", file=sys.stderr)
    return found


def integrated_gradients(model: TorchUNet, inputs: Inputs, settings: IntegratedGradients) -> Arrays:
    """Captum's `IntegratedGradients`, one image at a time, all its nodes together."""
    return one_by_one(_integrate, model, inputs, settings)


def _integrate(model, x, inputs: Inputs, settings: IntegratedGradients, size: int) -> Arrays:
    from captum import attr  # pyright: ignore[reportMissingImports]

    wanted = int(inputs.targets.class_index[0])
    with torch.no_grad():
        segment = segment_of(model(x), classes_of(inputs, x.device))

    def summed(points: torch.Tensor) -> torch.Tensor:
        return (class_logits(model(points))[:, wanted] * segment).sum((1, 2))

    effect = attr.IntegratedGradients(summed).attribute(x, baselines=0, n_steps=settings.num_nodes)
    attribution = effect.detach().sum(1).float().cpu().numpy()
    return {"attribution": attribution, "segment": segment.cpu().numpy()}


def occlusion(model: TorchUNet, inputs: Inputs, settings: Ate) -> Arrays:
    """Captum's `Occlusion` by 0 of all blocks of one image, one after the other.

    Args:
      model: in evaluation mode, on any device.
      inputs: of one image, H and W multiples of the block's size; its blocks are returned.
      settings: of our method, for the block's size and the threshold.

    Returns:
      The effects; Captum has them with the other sign, and without a threshold.
    """
    from captum import attr  # pyright: ignore[reportMissingImports]

    x, truth = channels_first(inputs.images, model.device), truth_of(inputs, model.device)
    side = settings.block_size
    window = (x.shape[1], side, side)

    def outcome(images: torch.Tensor) -> torch.Tensor:
        return outcomes_of(model(images), truth)

    with torch.no_grad():
        found = attr.Occlusion(outcome).attribute(
            x, sliding_window_shapes=window, strides=window, baselines=0
        )
        base = float(outcome(x))
    effects = -found[0, 0, ::side, ::side].float().cpu().numpy()
    shown = inputs.blocks[0] & (np.abs(effects) >= settings.threshold)
    ate = np.where(shown, effects, 0)
    return stack([{"ate": ate, "base_dice": base, "num_interventions": effects.size}])
