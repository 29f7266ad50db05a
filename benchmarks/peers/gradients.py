"""Seg-Grad-CAM and integrated gradients in PyTorch: as libraries do them, and as fast as it goes.

All explain the logits of a class summed over the pixels where it is predicted, as ours do.
"""

from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.arrays import Arrays, Inputs, join
from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.unet import TorchUNet, channels_first, channels_last, class_logits
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients

Method = GradCam | IntegratedGradients


def original(model: TorchUNet, inputs: Inputs, settings: Method) -> Arrays:
    """One image at a time, eagerly, channels first.

    Grad-CAM (of the last encoder block) as pytorch-grad-cam does it: a hook keeps the layer's
    output, and `backward` computes the gradients of all weights, too. Integrated gradients as
    Captum does them: all points of the path are one batch.
    """
    found = []
    for i in range(len(inputs.images)):
        x, wanted = channels_first(inputs.images[[i]], model.device), _classes(model, inputs.one(i))
        if isinstance(settings, GradCam):
            found.append(_grad_cam(model, x, wanted, whole=True))
        else:
            found.append(_integrate(model, x, wanted, settings.num_nodes, settings.num_nodes))
    model.zero_grad(set_to_none=True)
    return join(found)


@tuned_convolutions()
def tuned(folded: TorchUNet, inputs: Inputs, settings: Method) -> Arrays:
    """Many inputs together; Grad-CAM goes back no further than to its layer."""
    images, classes = channels_last(inputs.images, folded.device), _classes(folded, inputs)
    batch_size = inputs_per_call(folded.device, *images.shape[2:])
    if isinstance(settings, IntegratedGradients):
        return _integrate(folded, images, classes, settings.num_nodes, batch_size)
    parts = zip(images.split(batch_size), classes.split(batch_size), strict=True)
    return join([_grad_cam(folded, x, wanted, whole=False) for x, wanted in parts])


def _grad_cam(model: TorchUNet, x: torch.Tensor, wanted: torch.Tensor, *, whole: bool) -> Arrays:
    """With the gradients of the whole network, or, of a frozen one, only of the layer's output."""
    with _kept(model, whole) as kept:
        logits = class_logits(model(x))
        segment = _segment(logits, wanted)
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


@contextmanager
def _kept(model: TorchUNet, whole: bool):
    """What the bottleneck gives while the model runs, with a gradient of its own."""
    kept: list[torch.Tensor] = []

    def hook(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        output.retain_grad() if whole else output.requires_grad_(True)
        kept.append(output)

    handle = model.encoder[-1].register_forward_hook(hook)
    try:
        yield kept
    finally:
        handle.remove()


def _integrate(model: TorchUNet, images, classes, num_nodes: int, batch_size: int) -> Arrays:
    """Along the paths from 0 to images [N, C, H, W], so many points of them at a time."""
    with torch.inference_mode():
        parts = zip(images.split(batch_size), classes.split(batch_size), strict=True)
        segments = torch.cat([_segment(class_logits(model(x)), wanted) for x, wanted in parts])
    segments = segments.clone()  # no longer of the inference mode
    places, weights = (
        torch.from_numpy(values).to(images) / 2
        for values in np.polynomial.legendre.leggauss(num_nodes)
    )
    total = torch.zeros_like(images)
    for chunk in torch.arange(len(images) * num_nodes, device=images.device).split(batch_size):
        which, nodes = chunk // num_nodes, chunk % num_nodes
        points = ((places[nodes, None, None, None] + 0.5) * images[which]).requires_grad_(True)
        score = _summed(class_logits(model(points)), classes[which], segments[which])
        slope = torch.autograd.grad(score, points)[0]
        total.index_add_(0, which, weights[nodes, None, None, None] * slope)
    return _result((total * images).sum(1), segments)


def _segment(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return logits.argmax(1) == wanted[:, None, None]


def _summed(logits: torch.Tensor, wanted: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """The logits [N, K, H, W] of the classes [N] in the segments [N, H, W], over all images."""
    which = torch.arange(len(logits), device=logits.device)
    return (logits[which, wanted] * segment).sum()


def _classes(model: TorchUNet, inputs: Inputs) -> torch.Tensor:
    return torch.from_numpy(np.asarray(inputs.targets.class_index, np.int64)).to(model.device)


def _result(attribution: torch.Tensor, segment: torch.Tensor) -> Arrays:
    return {"attribution": attribution.detach().cpu().numpy(), "segment": segment.cpu().numpy()}
