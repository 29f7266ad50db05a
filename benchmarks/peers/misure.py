"""MiSuRe (arXiv 2406.12173) in PyTorch: as it is usually written, and as fast as PyTorch goes.

Both take the settings of our `MisurePaper` (or of `Misure`, which is checked but not timed).
"""

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from benchmarks.agree.rounding import masks_off, shaken, steady
from benchmarks.arrays import Arrays, Inputs, join
from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.misure_stage_2 import (
    hard_dice,
    minimal_masks,
    minimal_regions,
    segment_of,
    soft_dice,
)
from benchmarks.peers.unet import TorchUNet, channels_first, channels_last
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.ops.dilation import ellipse

__all__ = ["Rounding", "hard_dice", "original", "rounding", "soft_dice", "tuned"]


class Rounding(NamedTuple):
    """What rounding does to stage 2 of N images.

    Attributes:
      stable: int32 [N], the leading iterations that it leaves alone.
      moved: float [N], the share of the mask's pixels that it moves by more than 0.01.
    """

    stable: np.ndarray
    moved: np.ndarray


def original(model: TorchUNet, inputs: Inputs, settings: Misure | MisurePaper) -> Arrays:
    """One image at a time, eagerly, channels first, AdamW on a leaf mask.

    The paper's code is not public; this is what a plain reading of it gives. Nothing freezes the
    network, so every backward pass computes the gradients of its weights too, as it does wherever
    `requires_grad_(False)` is forgotten.
    """
    images, targets = channels_first(inputs.images, model.device), _tensors(inputs, model.device)
    each = zip(images.split(1), *(part.split(1) for part in targets), strict=True)
    results = [_explain(model, settings, *one) for one in each]
    model.zero_grad(set_to_none=True)
    return join(results)


@tuned_convolutions()
def tuned(
    folded: TorchUNet, inputs: Inputs, settings: Misure | MisurePaper, batch_size: int | None = None
) -> Arrays:
    """Many images together (`batch_size`, by default what suits the device).

    One AdamW moves all masks: a mask's gradient and moments are its own, so the losses are summed.
    """
    batch_size = batch_size or inputs_per_call(folded.device, *inputs.images.shape[1:3])
    results = []
    for start in range(0, len(inputs.images), batch_size):
        chunk = inputs.some(slice(start, start + batch_size))
        images = channels_last(chunk.images, folded.device)
        results.append(_explain(folded, settings, images, *_tensors(chunk, folded.device)))
    return join(results)


def rounding(folded: TorchUNet, inputs: Inputs, settings: Misure | MisurePaper) -> Rounding:
    """How far rounding alone moves stage 2: nothing that computes in float32 can be held to less.

    Where the gradient of a pixel nearly vanishes, Adam makes steps of the learning rate out of its
    sign, so rounding errors grow with the iterations: on some images one network in float32 and in
    float64, or on images that differ by rounding, has losses that differ by percents, and on others
    the same losses and other masks. All start from the same regions.
    """
    single = tuned(folded, inputs, settings)
    targets = _tensors(inputs, folded.device)
    names = ("segment", "sufficient", "dilations", "dice_trace")
    stage_1 = tuple(torch.from_numpy(single[name]).to(folded.device) for name in names)
    runs = [(folded, channels_last(images, folded.device)) for images in shaken(inputs.images)]
    double = channels_first(inputs.images, folded.device).double()
    runs.append((copy.deepcopy(folded).double(), double))
    others = [_stage_2(settings)(*run, *targets, stage_1, settings) for run in runs]
    return Rounding(
        stable=steady(single["trace"], [other["trace"] for other in others]),
        moved=np.max([masks_off(single["mask"], other["mask"]) for other in others], axis=0),
    )


def _explain(model, settings: Misure | MisurePaper, images, wanted, regions) -> Arrays:
    """Both stages of images [N, C, H, W] together."""
    stage_1 = _sufficient_regions(model, images, wanted, regions, settings)
    return _stage_2(settings)(model, images, wanted, regions, stage_1, settings)


def _stage_2(settings: Misure | MisurePaper) -> Any:
    return minimal_regions if isinstance(settings, Misure) else minimal_masks


def _tensors(inputs: Inputs, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes, int64 [N], and regions, bool [N, H, W], on a device."""
    wanted = torch.from_numpy(np.asarray(inputs.targets.class_index, np.int64))
    return wanted.to(device), torch.from_numpy(np.asarray(inputs.targets.region)).to(device)


def _sufficient_regions(model, images, wanted, regions, settings) -> tuple[torch.Tensor, ...]:
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
        # In batches of 1, 2, 4, .. images: cuDNN and torch.compile prepare for every size anew.
        size = 1 << (len(active) - 1).bit_length()
        filled = active[torch.arange(size, device=device) % len(active)]
        with torch.no_grad():
            kept = images[filled] * region[filled, None]
            found = segment_of(model, kept, wanted[filled]) & regions[filled]
            dice = hard_dice(found, segment[filled])[: len(active)]
        trace[active, count] = dice
        dilations[active] = count
        grows = (dice < settings.tau) & segment[active].any((1, 2))
        active = active[grows]
        if len(active) == 0 or count == settings.max_dilations:
            break
        grown = functional.conv2d(region[active, None].float(), kernel, padding="same")
        region[active] = grown[:, 0] > 0.5
    return segment, region, dilations, trace
