"""Confidence, entropy and test-time augmentation in PyTorch: as usually written, and batched."""

import itertools

import numpy as np
import torch
from torch.nn import functional

from benchmarks.arrays import Arrays, Inputs
from benchmarks.peers.running import ways
from benchmarks.peers.unet import TorchUNet, class_logits, dice
from jaxseg_xai.explainers.uncertainty.confidence import Confidence
from jaxseg_xai.ops.dilation import ellipse


@torch.inference_mode()
def _explain(model: TorchUNet, images, inputs: Inputs, settings: Confidence, size: int) -> Arrays:
    """Of images [N, C, H, W]: their views together, their scores image by image.

    The latter is little beside the network on a CPU.
    """
    turns = _turns(settings, images.shape[2] == images.shape[3])
    turned = [(torch.rot90(images, quarters, (2, 3)), flip) for quarters, flip in turns]
    # [N, V, C, H, W]: quarter turns are of square images only, so all views have one shape.
    views = torch.stack([view.flip(3) if flip else view for view, flip in turned], 1)
    layout = torch.contiguous_format if size == 1 else torch.channels_last
    chunks = views.flatten(0, 1).contiguous(memory_format=layout).split(size)
    logits = torch.cat([class_logits(model(chunk)) for chunk in chunks])
    each = zip(logits.unflatten(0, views.shape[:2]), inputs.targets.class_index, strict=True)
    found = [_measure(one, int(wanted), turns, settings) for one, wanted in each]
    return {name: torch.stack([one[name] for one in found]).cpu().numpy() for name in found[0]}


def _turns(settings: Confidence, square: bool) -> list[tuple[int, bool]]:
    """Quarter turns and flips; the first is the image itself."""
    quarters = (0, 1, 2, 3) if settings.rotate and square else (0, 2)
    return list(itertools.product(quarters, (False, True)))


def _measure(
    logits: torch.Tensor, wanted: int, turns: list[tuple[int, bool]], settings: Confidence
) -> dict[str, torch.Tensor]:
    """Entropy, segment and scores of one image, given the logits [V, K, H, W] of its views."""
    segments = []
    for view, (quarters, flip) in zip(logits.argmax(1) == wanted, turns, strict=True):
        segments.append(torch.rot90(view.flip(1) if flip else view, -quarters))
    segments = torch.stack(segments)
    segment = segments[0]

    logarithms = torch.log_softmax(logits[0], 0)
    probabilities = logarithms.exp()
    entropy = -(probabilities * logarithms).sum(0) / np.log(len(probabilities))
    surest = probabilities.amax(0)
    element = torch.from_numpy(ellipse(2 * settings.band_width + 1)).to(logits)[None, None]
    inner, outer = (
        functional.conv2d(mask[None, None].to(logits), element, padding="same")[0, 0] > 0.5
        for mask in (segment, ~segment)
    )
    band = inner & outer
    first, second = torch.triu_indices(len(segments), len(segments), 1)
    return {
        "attribution": entropy,
        "segment": segment,
        "confidence": surest[segment].mean(),
        "entropy": entropy[segment].mean(),
        "confidence_band": surest[band].mean(),
        "entropy_band": entropy[band].mean(),
        "soft_dice_confidence": dice(probabilities[wanted][None], segment[None])[0],
        "tta_disagreement": 1 - dice(segments[1:], segment[None]).mean(),
        "tta_pairwise": 1 - dice(segments[first], segments[second]).mean(),
    }


#: One view of one image at a time; the views of many images together.
original, tuned = ways(_explain)
