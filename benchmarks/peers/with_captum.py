"""Captum's own methods, where it is installed (`pip install captum`): nothing here needs it."""

import importlib.util
import sys

import numpy as np
import torch

from benchmarks.peers.pdcr import outcomes_of, truth_of
from benchmarks.peers.results import AteResult, AttributionResult
from benchmarks.peers.unet import TorchUNet, channels_first, class_logits
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import Ate, IntegratedGradients


def has_captum() -> bool:
    """Whether Captum is there to compare with; says so if it is not."""
    found = importlib.util.find_spec("captum") is not None
    if not found:
        print("captum is not installed, so it is left out (pip install captum)", file=sys.stderr)
    return found


def integrated_gradients(
    model: TorchUNet, images: np.ndarray, class_indices: np.ndarray, settings: IntegratedGradients
) -> AttributionResult:
    """Captum's `IntegratedGradients`, one image at a time, all its nodes together.

    Args:
      model: in evaluation mode, on any device.
      images: float32 [N, H, W, C].
      class_indices: int [N].
      settings: of our method.
    """
    from captum import attr  # pyright: ignore[reportMissingImports]

    maps, segments = [], []
    for x, wanted in zip(
        channels_first(images, model.device).split(1), class_indices.tolist(), strict=True
    ):
        with torch.no_grad():
            segment = class_logits(model(x)).argmax(1) == wanted

        def summed(points: torch.Tensor, c: int = wanted, m: torch.Tensor = segment):
            return (class_logits(model(points))[:, c] * m).sum((1, 2))

        found = attr.IntegratedGradients(summed).attribute(
            x, baselines=0, n_steps=settings.num_nodes
        )
        maps.append(found.detach().sum(1).float().cpu().numpy())
        segments.append(segment.cpu().numpy())
    return AttributionResult(attribution=np.concatenate(maps), segment=np.concatenate(segments))


def occlusion(
    model: TorchUNet,
    image: np.ndarray,
    target: SegmentTarget,
    settings: Ate,
    blocks: np.ndarray,
) -> AteResult:
    """Captum's `Occlusion` by 0 of all blocks, one after the other.

    Args:
      model: in evaluation mode, on any device.
      image: float32 [H, W, C], H and W multiples of the block's size.
      target: class, region and reference of the outcome.
      settings: of our method, for the block's size and the threshold.
      blocks: bool [rows, columns], those to return.

    Returns:
      The effects; Captum has them with the other sign, and without a threshold.
    """
    from captum import attr  # pyright: ignore[reportMissingImports]

    inputs, truth = channels_first(image[None], model.device), truth_of(target, model.device)
    side = settings.block_size
    window = (image.shape[-1], side, side)

    def outcome(images: torch.Tensor) -> torch.Tensor:
        return outcomes_of(model(images), truth)

    with torch.no_grad():
        found = attr.Occlusion(outcome).attribute(
            inputs, sliding_window_shapes=window, strides=window, baselines=0
        )
        base = float(outcome(inputs))
    effects = -found[0, 0, ::side, ::side].float().cpu().numpy()
    shown = blocks & (np.abs(effects) >= settings.threshold)
    return AteResult(
        ate=np.where(shown, effects, 0), base_dice=base, num_interventions=effects.size
    )
