"""Seg-Grad-CAM, integrated gradients and the ATE's gradient in PyTorch.

Like ours, the first two explain the logits of a class summed over the pixels of its segment.
"""

from typing import Any

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from torch.nn import functional

from benchmarks.arrays import Arrays, Inputs
from benchmarks.peers.pdcr import soft_outcomes_of, truth_of
from benchmarks.peers.running import ALL, classes_of, ways
from benchmarks.peers.unet import TorchUNet, channels_first, class_logits, segment_of
from jaxseg_xai.explainers.ate.gradient import AteGradient
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients
from jaxseg_xai.ops.blocks import tile_patches


def _grad_cam(model: TorchUNet, x, inputs: Inputs, settings: GradCam, size: int) -> Arrays:
    """Of the last encoder block, as pytorch-grad-cam does it: a hook keeps the layer's output.

    `backward` computes the gradients of all weights, too; of a frozen network, as the tuned way
    has, only that of the layer's output.
    """
    whole, kept = model.head.weight.requires_grad, []

    def keep(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        output.retain_grad() if whole else output.requires_grad_(True)
        kept.append(output)

    with model.encoder[-1].register_forward_hook(keep):
        logits, wanted = class_logits(model(x)), classes_of(inputs, model.device)
        segment = segment_of(logits, wanted)
        summed = _summed(logits, wanted, segment)
    if whole:
        model.zero_grad()
        summed.backward()
        gradient: Any = kept[0].grad
    else:
        (gradient,) = torch.autograd.grad(summed, kept[0])
    weights = gradient.float().mean((2, 3), keepdim=True)
    cam = functional.relu((weights * kept[0].detach().float()).sum(1, keepdim=True))
    cam = functional.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False)
    return _result(cam[:, 0], segment)


def _integrate(
    model: TorchUNet, images, inputs: Inputs, settings: IntegratedGradients, size: int
) -> Arrays:
    """Along the paths from 0 to images [N, C, H, W], so many points of them at a time."""
    classes, count = classes_of(inputs, model.device), settings.num_nodes
    with torch.inference_mode():
        segments = segment_of(model(images), classes)
    segments = segments.clone()  # no longer of the inference mode
    places, weights = (torch.from_numpy(v).to(images) / 2 for v in leggauss(count))
    total = torch.zeros_like(images)
    for chunk in torch.arange(len(images) * count, device=images.device).split(size):
        which, nodes = chunk // count, chunk % count
        points = ((places[nodes, None, None, None] + 0.5) * images[which]).requires_grad_(True)
        score = _summed(class_logits(model(points)), classes[which], segments[which])
        slope = torch.autograd.grad(score, points)[0]
        total.index_add_(0, which, weights[nodes, None, None, None] * slope)
    return _result((total * images).sum(1), segments)


def _ate_gradient(model: TorchUNet, x, inputs: Inputs, settings: AteGradient, size: int) -> Arrays:
    """Effects of all blocks of one image in points, one field and one node at a time.

    `draws.full` holds the patch in each block of each field; blocks in the region have effect 0.
    """
    if settings.outcome != "soft_dice":
        raise ValueError(f"outcome={settings.outcome!r}: the peer knows soft_dice")
    truth, side, (patches, _, patch_of) = (
        truth_of(inputs, x.device),
        settings.block_size,
        inputs.draws,
    )
    fields = np.stack([np.asarray(tile_patches(patches[p], x.shape[2:])) for p in patch_of[0].T])
    free = 1 - _painted(functional.max_pool2d(truth.region[None].float(), side), side)

    def slope(at: torch.Tensor) -> torch.Tensor:
        at = at.detach().requires_grad_(True)
        return torch.autograd.grad(soft_outcomes_of(model(at), truth).sum(), at)[0]

    places, weights = leggauss(settings.num_nodes)
    places, weights = (places + 1) / 2, weights / 2
    if settings.num_nodes == 1:  # at the image itself
        places = np.zeros(1)
    effects = []
    for field in channels_first(fields, x.device).split(1):
        step = (field - x) * free
        nodes = zip(places, weights, strict=True)
        mean = sum(float(weight) * slope(x + float(place) * step) for place, weight in nodes)
        effects.append(functional.avg_pool2d((mean * step).sum(1), side) * side**2)
    with torch.no_grad():
        segment = segment_of(model(x), classes_of(inputs, x.device)) & truth.region
    return _result(_painted(torch.stack(effects).mean(0), side), segment)


def _painted(blocks: torch.Tensor, side: int) -> torch.Tensor:
    """[N, rows, columns] -> [N, H, W]."""
    return blocks.repeat_interleave(side, 1).repeat_interleave(side, 2)


def _summed(logits: torch.Tensor, wanted: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """The logits [N, K, H, W] of the classes [N] in the segments [N, H, W], over all images."""
    which = torch.arange(len(logits), device=logits.device)
    return (logits[which, wanted] * segment).sum()


def _result(attribution: torch.Tensor, segment: torch.Tensor) -> Arrays:
    return {"attribution": attribution.detach().cpu().numpy(), "segment": segment.cpu().numpy()}


_METHODS = {
    GradCam: _grad_cam,
    IntegratedGradients: _integrate,
    AteGradient: _ate_gradient,
}


def _explain(model: TorchUNet, x, inputs: Inputs, settings: Any, size: int) -> Arrays:
    return _METHODS[type(settings)](model, x, inputs, settings, size)


#: As Captum and pytorch-grad-cam do them, all points of a path as one batch; many inputs together.
original, tuned = ways(_explain, original={"size": ALL})
