"""MiSuRe (arXiv 2406.12173) in PyTorch: as it is usually written, and as fast as PyTorch goes.

Both take the settings of our `MisurePaper` (or of `Misure`, which is checked but not timed), and a
region where not the whole image is meant.
"""

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.misure_stage2 import (
    hard_dice,
    minimal_masks,
    minimal_regions,
    segment_of,
)
from benchmarks.peers.results import MisureResult
from benchmarks.peers.unet import (
    TorchUNet,
    channels_first,
    channels_last,
    tuned_copy,
)
from benchmarks.validation import shaken, steady
from jaxseg_xai.explainers import Misure, MisurePaper
from jaxseg_xai.ops.dilation import ellipse


def explain_original(
    model: TorchUNet,
    images: np.ndarray,
    class_indices: np.ndarray,
    settings: Misure | MisurePaper,
    regions: np.ndarray | None = None,
) -> MisureResult:
    """One image at a time, eagerly, channels first, AdamW on a leaf mask.

    The paper's code is not public; this is what a plain reading of it gives. Nothing freezes the
    network, so every backward pass computes the gradients of its weights too, as it does wherever
    `requires_grad_(False)` is forgotten.

    Args:
      model: in evaluation mode.
      images: float32 [N, H, W, C], normalised; 0 is the baseline.
      class_indices: int [N], the class explained of each image.
      settings: of the method.
      regions: bool [N, H, W], the pixels that count; all where left out.

    Returns:
      The result for N images.
    """
    regions = _everywhere(images) if regions is None else regions
    results = []
    for i in range(len(images)):
        one = slice(i, i + 1)
        inputs = channels_first(images[one], model.device)
        targets = _tensors(class_indices[one], regions[one], model.device)
        results.append(_explain(model, inputs, *targets, settings))
    model.zero_grad(set_to_none=True)
    return _concatenate(results)


@tuned_convolutions()
def explain_tuned(
    model: TorchUNet,
    images: np.ndarray,
    class_indices: np.ndarray,
    settings: Misure | MisurePaper,
    regions: np.ndarray | None = None,
    batch_size: int | None = None,
) -> MisureResult:
    """Many images together, on a frozen, folded, channels-last copy of the network.

    One AdamW moves all masks: a mask's gradient and moments are its own, so the losses are summed.

    Args:
      model: in evaluation mode.
      images: float32 [N, H, W, C], normalised; 0 is the baseline.
      class_indices: int [N], the class explained of each image.
      settings: of the method.
      regions: bool [N, H, W], the pixels that count; all where left out.
      batch_size: images at a time; default: what suits the device.

    Returns:
      The result for N images.
    """
    model = tuned_copy(model)
    regions = _everywhere(images) if regions is None else regions
    batch_size = batch_size or inputs_per_call(model.device, *images.shape[1:3])
    results = []
    for start in range(0, len(images), batch_size):
        chunk = slice(start, start + batch_size)
        inputs = channels_last(images[chunk], model.device)
        targets = _tensors(class_indices[chunk], regions[chunk], model.device)
        results.append(_explain(model, inputs, *targets, settings))
    return _concatenate(results)


def stable_iterations(
    model: TorchUNet,
    images: np.ndarray,
    class_indices: np.ndarray,
    settings: Misure | MisurePaper,
    regions: np.ndarray | None = None,
) -> np.ndarray:
    """How many iterations of each image rounding leaves alone.

    Where the gradient of a pixel nearly vanishes, Adam makes steps of the learning rate out of its
    sign, so rounding errors grow with the iterations: on some images one network in float32 and in
    float64, or on images that differ by rounding, has losses that differ by percents. Nothing that
    computes in float32 can be held to less.

    Args:
      model: in evaluation mode.
      images: float32 [N, H, W, C].
      class_indices: int [N].
      settings: of the method.
      regions: bool [N, H, W], the pixels that count; all where left out.

    Returns:
      int32 [N], the leading iterations at which stage 2 in float32 agrees with that in float64,
      and with that of shaken images, all from the same regions.
    """
    single = explain_tuned(model, images, class_indices, settings, regions)
    regions = _everywhere(images) if regions is None else regions
    targets = _tensors(class_indices, regions, model.device)
    stage_1 = (single.segment, single.sufficient, single.dilations, single.dice_trace)
    stage_1 = tuple(torch.from_numpy(array).to(model.device) for array in stage_1)
    network = tuned_copy(model)

    def trace(network: TorchUNet, inputs: torch.Tensor) -> np.ndarray:
        return _stage_2(network, inputs, *targets, stage_1, settings).trace

    others = [trace(network, channels_last(other, model.device)) for other in shaken(images)]
    double = channels_first(images, model.device).double()
    return steady(single.trace, [*others, trace(network.double(), double)])


def _explain(
    model: TorchUNet,
    images: torch.Tensor,
    wanted: torch.Tensor,
    regions: torch.Tensor,
    settings: Misure | MisurePaper,
) -> MisureResult:
    """Both stages of images [N, C, H, W] together."""
    stage_1 = _sufficient_regions(model, images, wanted, regions, settings)
    return _stage_2(model, images, wanted, regions, stage_1, settings)


def _stage_2(
    model: TorchUNet,
    images: torch.Tensor,
    wanted: torch.Tensor,
    regions: torch.Tensor,
    stage_1: tuple[torch.Tensor, ...],
    settings: Misure | MisurePaper,
) -> MisureResult:
    if isinstance(settings, Misure):
        return minimal_regions(model, images, wanted, regions, stage_1, settings)
    return minimal_masks(model, images, wanted, regions, stage_1, settings)


def _everywhere(images: np.ndarray) -> np.ndarray:
    """Regions of whole images, bool [N, H, W]."""
    return np.ones(images.shape[:3], bool)


def _tensors(
    class_indices: np.ndarray, regions: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes, int64 [N], and regions, bool [N, H, W], on a device."""
    wanted = torch.from_numpy(np.asarray(class_indices, np.int64))
    return wanted.to(device), torch.from_numpy(regions).to(device)


def _concatenate(results: list[MisureResult]) -> MisureResult:
    fields = MisureResult.__dataclass_fields__
    return MisureResult(
        **{name: np.concatenate([getattr(result, name) for result in results]) for name in fields}
    )


def _sufficient_regions(
    model: TorchUNet,
    images: torch.Tensor,
    wanted: torch.Tensor,
    regions: torch.Tensor,
    settings: Misure | MisurePaper,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Stage 1: M_0 = Y; while D([argmax f(x M_k) = c], Y) < tau: M_{k+1} = dilate(M_k).

    Images [N, C, H, W] that are finished leave the batch. Returns Y and M_SR, bool [N, H, W],
    the number of dilations [N] and the Dice trace [N, max_dilations + 1].
    """
    device = images.device
    kernel = torch.from_numpy(ellipse(settings.element_size)).to(device).float()[None, None]
    with torch.no_grad():
        segment = segment_of(model, images, wanted) & regions
    region = segment.clone()
    dilations = torch.zeros(len(images), dtype=torch.int32, device=device)
    trace = torch.full((len(images), settings.max_dilations + 1), torch.nan, device=device)
    active = torch.arange(len(images), device=device)
    for count in range(settings.max_dilations + 1):
        with torch.no_grad():
            kept = images[active] * region[active, None]
            found = segment_of(model, kept, wanted[active]) & regions[active]
            dice = hard_dice(found, segment[active])
        trace[active, count] = dice
        dilations[active] = count
        grows = (dice < settings.tau) & segment[active].any((1, 2))
        active = active[grows]
        if len(active) == 0 or count == settings.max_dilations:
            break
        grown = functional.conv2d(region[active, None].float(), kernel, padding="same")
        region[active] = grown[:, 0] > 0.5
    return segment, region, dilations, trace
