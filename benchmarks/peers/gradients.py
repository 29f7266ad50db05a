"""Seg-Grad-CAM and integrated gradients in PyTorch: as libraries do them, and as fast as it goes.

All explain the logits of a class summed over the pixels where it is predicted, as ours do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn import functional

from benchmarks.arrays import Arrays, Inputs
from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.unet import TorchUNet, channels_first, channels_last, class_logits
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients

#: Maps and segments, [N, H, W].
_Found = tuple[torch.Tensor, torch.Tensor]


def original(model: TorchUNet, inputs: Inputs, settings: GradCam | IntegratedGradients) -> Arrays:
    """One image at a time, eagerly, channels first.

    Grad-CAM (of the last encoder block) as pytorch-grad-cam does it: a hook keeps the layer's
    output, and `backward` computes the gradients of all weights, too. Integrated gradients as
    Captum does them: all points of the path are one batch.
    """
    images, classes = channels_first(inputs.images, model.device), _classes(model, inputs)
    found = []
    for x, wanted in zip(images.split(1), classes.split(1), strict=True):
        if isinstance(settings, GradCam):
            found.append(_grad_cam(model, x, wanted, whole=True))
            continue
        with torch.no_grad():
            segment = _segment(class_logits(model(x)), wanted)
        first = torch.zeros(settings.num_nodes, dtype=torch.int64, device=x.device)
        nodes = torch.arange(settings.num_nodes, device=x.device)
        slope = _slopes(model, x, wanted, segment, first, nodes, settings)
        found.append(((slope.sum(0, keepdim=True) * x).sum(1), segment))
    model.zero_grad(set_to_none=True)
    return _result(*map(torch.cat, zip(*found, strict=True)))


@tuned_convolutions()
def tuned(folded: TorchUNet, inputs: Inputs, settings: GradCam | IntegratedGradients) -> Arrays:
    """Many inputs together; Grad-CAM goes back no further than to its layer."""
    images, classes = channels_last(inputs.images, folded.device), _classes(folded, inputs)
    batch_size = inputs_per_call(folded.device, *images.shape[2:])
    parts = list(zip(images.split(batch_size), classes.split(batch_size), strict=True))
    if isinstance(settings, GradCam):
        found = [_grad_cam(folded, x, wanted, whole=False) for x, wanted in parts]
        return _result(*map(torch.cat, zip(*found, strict=True)))
    with torch.inference_mode():
        segments = torch.cat([_segment(class_logits(folded(x)), wanted) for x, wanted in parts])
    segments = segments.clone()  # no longer of the inference mode
    total = torch.zeros_like(images)
    jobs = torch.arange(len(images) * settings.num_nodes, device=images.device)
    for chunk in jobs.split(batch_size):
        which, nodes = chunk // settings.num_nodes, chunk % settings.num_nodes
        slope = _slopes(folded, images, classes, segments, which, nodes, settings)
        total.index_add_(0, which, slope)
    return _result((total * images).sum(1), segments)


def _grad_cam(model: TorchUNet, x: torch.Tensor, wanted: torch.Tensor, *, whole: bool) -> _Found:
    """With the gradients of the whole network, or, of a frozen one, only of the layer's output."""

    def prepare(activation: torch.Tensor) -> None:
        if whole:
            activation.retain_grad()
        else:
            activation.requires_grad_(True)

    with _kept(model, prepare) as kept:
        logits = class_logits(model(x))
        segment = _segment(logits, wanted)
        summed = _summed(logits, wanted, segment)
        if whole:
            model.zero_grad()
            summed.backward()
            gradient = kept[0].grad
            assert gradient is not None
        else:
            (gradient,) = torch.autograd.grad(summed, kept[0])
    weights = gradient.float().mean((2, 3), keepdim=True)
    cam = functional.relu((weights * kept[0].detach().float()).sum(1, keepdim=True))
    cam = functional.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False)
    return cam[:, 0], segment


@contextmanager
def _kept(
    model: TorchUNet, prepare: Callable[[torch.Tensor], None]
) -> Iterator[list[torch.Tensor]]:
    """What the bottleneck gives while the model runs, prepared for its gradient."""
    kept: list[torch.Tensor] = []

    def hook(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        prepare(output)
        kept.append(output)

    handle = model.encoder[-1].register_forward_hook(hook)
    try:
        yield kept
    finally:
        handle.remove()


def _slopes(model, images, classes, segments, which, nodes, settings) -> torch.Tensor:
    """Weighted gradients [n, C, H, W] of n images `which` at the points `nodes` of their paths."""
    places, weights = (
        torch.from_numpy(values).to(images)[nodes, None, None, None] / 2
        for values in np.polynomial.legendre.leggauss(settings.num_nodes)
    )
    points = ((places + 0.5) * images[which]).requires_grad_(True)
    score = _summed(class_logits(model(points)), classes[which], segments[which])
    return weights * torch.autograd.grad(score, points)[0]


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
