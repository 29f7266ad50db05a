"""Confidence, entropy and test-time augmentation in PyTorch: as usually written, and batched."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from benchmarks.arrays import Arrays, Inputs
from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.misure import hard_dice, soft_dice
from benchmarks.peers.unet import TorchUNet, channels_first, channels_last, class_logits
from jaxseg_xai.explainers.uncertainty.confidence import Confidence
from jaxseg_xai.ops.dilation import ellipse


def original(model: TorchUNet, inputs: Inputs, settings: Confidence) -> Arrays:
    """One view of one image at a time, eagerly, channels first."""
    found, images = [], channels_first(inputs.images, model.device)
    with torch.inference_mode():
        for x, wanted in zip(images.split(1), inputs.targets.class_index, strict=True):
            logits = torch.cat([class_logits(model(view)) for view in _views(x, settings)])
            found.append(_measure(logits, int(wanted), settings))
    return _result(found)


@tuned_convolutions()
def tuned(folded: TorchUNet, inputs: Inputs, settings: Confidence) -> Arrays:
    """Views of many images together, channels last.

    The scores are then measured image by image, which on a CPU is little beside the network.
    """
    images = channels_last(inputs.images, folded.device)
    with torch.inference_mode():
        # [N, V, C, H, W]: quarter turns are of square images only, so all views have one shape.
        views = torch.stack(list(_views(images, settings)), 1)
        flat = views.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        chunks = flat.split(inputs_per_call(folded.device, *images.shape[2:]))
        logits = torch.cat([class_logits(folded(chunk)) for chunk in chunks])
        each = zip(logits.unflatten(0, views.shape[:2]), inputs.targets.class_index, strict=True)
        found = [_measure(one, int(wanted), settings) for one, wanted in each]
    return _result(found)


def _turns(settings: Confidence, square: bool) -> list[tuple[int, bool]]:
    """Quarter turns and flips; the first is the image itself."""
    quarters = (0, 1, 2, 3) if settings.rotate and square else (0, 2)
    return list(itertools.product(quarters, (False, True)))


def _views(x: torch.Tensor, settings: Confidence) -> Iterator[torch.Tensor]:
    for quarters, flip in _turns(settings, x.shape[2] == x.shape[3]):
        turned = torch.rot90(x, quarters, (2, 3))
        yield turned.flip(3) if flip else turned


def _measure(
    logits: torch.Tensor, wanted: int, settings: Confidence
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Entropy, segment and scores of one image, given the logits [V, K, H, W] of its views."""
    turns = _turns(settings, logits.shape[2] == logits.shape[3])
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
    scores = {
        "confidence": surest[segment].mean(),
        "entropy": entropy[segment].mean(),
        "confidence_band": surest[band].mean(),
        "entropy_band": entropy[band].mean(),
        "soft_dice_confidence": soft_dice(probabilities[wanted][None], segment[None])[0],
        "tta_disagreement": 1 - hard_dice(segments[1:], segment[None]).mean(),
        "tta_pairwise": 1 - hard_dice(segments[first], segments[second]).mean(),
    }
    return entropy, segment, scores


def _result(found: list[tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]]) -> Arrays:
    entropies, segments, scores = zip(*found, strict=True)
    named = {"attribution": entropies, "segment": segments}
    named |= {name: [each[name] for each in scores] for name in scores[0]}
    return {name: torch.stack(list(values)).cpu().numpy() for name, values in named.items()}
