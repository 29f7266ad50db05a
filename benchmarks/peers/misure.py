"""MiSuRe (arXiv 2406.12173) in PyTorch: as it is usually written, and as fast as PyTorch goes.

Both take the settings of our `MisurePaper` (or of `Misure`, which is checked but not timed).
"""

import copy
from typing import Any

import numpy as np
import torch

from benchmarks.agree.differences import masks_off, shaken, steady
from benchmarks.arrays import Arrays, Inputs
from benchmarks.peers.misure_stage_2 import dilated, minimal_masks, minimal_regions
from benchmarks.peers.running import classes_of, ways
from benchmarks.peers.unet import TorchUNet, channels_first, channels_last, dice, segment_of
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.search import Misure


def rounding(folded: TorchUNet, inputs: Inputs, settings: Misure | MisurePaper) -> Arrays:
    """How far rounding alone moves stage 2: nothing that computes in float32 can be held to less.

    Where the gradient of a pixel nearly vanishes, Adam makes steps of the learning rate out of its
    sign, so rounding errors grow with the iterations: on some images one network in float32 and in
    float64, or on images that differ by rounding, has losses that differ by percents, and on others
    the same losses and other masks. All start from the same regions.

    Returns:
      `stable` int32 [N], the leading iterations that it leaves alone; `moved` float [N], the share
      of the mask's pixels that it moves by more than 0.01.
    """
    single = tuned(folded, inputs, settings)
    targets = _tensors(inputs, folded.device)
    names = ("segment", "sufficient", "dilations", "dice_trace")
    stage_1 = tuple(torch.from_numpy(single[name]).to(folded.device) for name in names)
    runs = [(folded, channels_last(images, folded.device)) for images in shaken(inputs.images)]
    double = channels_first(inputs.images, folded.device).double()
    runs.append((copy.deepcopy(folded).double(), double))
    others = [_stage_2(settings)(*run, *targets, stage_1, settings) for run in runs]
    return {
        "stable": steady(single["trace"], [other["trace"] for other in others]),
        "moved": np.max([masks_off(single["mask"], other["mask"]) for other in others], axis=0),
    }


def _explain(model, images, inputs: Inputs, settings: Misure | MisurePaper, size: int) -> Arrays:
    """Both stages of images [N, C, *S] together."""
    targets = _tensors(inputs, images.device)
    stage_1 = _sufficient_regions(model, images, *targets, settings)
    return _stage_2(settings)(model, images, *targets, stage_1, settings)


def _stage_2(settings: Misure | MisurePaper) -> Any:
    return minimal_regions if isinstance(settings, Misure) else minimal_masks


def _tensors(inputs: Inputs, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes, int64 [N], and regions, bool [N, *S], on a device."""
    regions = torch.from_numpy(np.asarray(inputs.targets.region))
    return classes_of(inputs, device), regions.to(device)


def _sufficient_regions(model, images, wanted, regions, settings) -> tuple[torch.Tensor, ...]:
    """Stage 1: M_0 = Y; while D([argmax f(x M_k) = c], Y) < tau: M_{k+1} = dilate(M_k).

    Images [N, C, *S] that are finished leave the batch. Returns Y and M_SR, bool [N, *S],
    the number of dilations [N] and the Dice trace [N, max_dilations + 1].
    """
    device = images.device
    with torch.no_grad():
        segment = segment_of(model(images), wanted) & regions
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
            found = segment_of(model(kept), wanted[filled]) & regions[filled]
            reached = dice(found, segment[filled])[: len(active)]
        trace[active, count] = reached
        dilations[active] = count
        grows = (reached < settings.tau) & segment[active].flatten(1).any(1)
        active = active[grows]
        if len(active) == 0 or count == settings.max_dilations:
            break
        region[active] = dilated(region[active], settings.element_size)
    return segment, region, dilations, trace


#: AdamW on a leaf mask. The paper's code is not public; this is what a plain reading of it gives.
#: Nothing freezes the network, so every backward pass computes the gradients of its weights too, as
#: it does wherever `requires_grad_(False)` is forgotten. Tuned, one AdamW moves the masks of many
#: images: a mask's gradient and moments are its own, so the losses are summed.
original, tuned = ways(_explain)
