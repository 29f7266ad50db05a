"""Seg-Grad-CAM and integrated gradients in PyTorch: as libraries do them, and as fast as it goes.

All explain the logits of a class summed over the pixels where it is predicted, as ours do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.results import AttributionResult
from benchmarks.peers.unet import (
    TorchUNet,
    channels_first,
    channels_last,
    class_logits,
)
from jaxseg_xai.explainers import GradCam, IntegratedGradients

Method = GradCam | IntegratedGradients


def explain_original(
    model: TorchUNet, images: np.ndarray, class_indices: np.ndarray, settings: Method
) -> AttributionResult:
    """One image at a time, eagerly, channels first.

    Grad-CAM as pytorch-grad-cam does it: a hook keeps the layer's output, and `backward` computes
    the gradients of all weights, too. Integrated gradients as Captum does them: all points of the
    path are one batch.

    Args:
      model: in evaluation mode, on any device; Grad-CAM looks at the output of its last encoder
        block.
      images: float32 [N, H, W, C], normalised; 0 is the baseline.
      class_indices: int [N], the class explained of each image.
      settings: of our method; for Grad-CAM its layer must be the default.
    """
    inputs, classes = channels_first(images, model.device), _classes(model, class_indices)
    found = []
    for x, wanted in zip(inputs.split(1), classes.split(1), strict=True):
        if isinstance(settings, GradCam):
            found.append(_grad_cam_with_backward(model, x, wanted))
        else:
            with torch.no_grad():
                segment = _segment(class_logits(model(x)), wanted)
            first = torch.zeros(settings.num_nodes, dtype=torch.int64, device=x.device)
            nodes = torch.arange(settings.num_nodes, device=x.device)
            slope = _slopes(model, x, wanted, segment, first, nodes, settings)
            found.append(((slope.sum(0, keepdim=True) * x).sum(1), segment))
    model.zero_grad(set_to_none=True)
    return _result(*map(torch.cat, zip(*found, strict=True)))


@tuned_convolutions()
def explain_tuned(
    model: TorchUNet, images: np.ndarray, class_indices: np.ndarray, settings: Method
) -> AttributionResult:
    """Many inputs together, on a frozen, folded, channels-last network.

    Grad-CAM goes back no further than to its layer.

    Args:
      model: from `tuned_copy`, on any device.
      images: float32 [N, H, W, C].
      class_indices: int [N].
      settings: of our method.
    """
    inputs, classes = channels_last(images, model.device), _classes(model, class_indices)
    batch_size = inputs_per_call(model.device, *images.shape[1:3])
    parts = list(zip(inputs.split(batch_size), classes.split(batch_size), strict=True))
    if isinstance(settings, GradCam):
        found = [_grad_cam_of_layer(model, x, wanted) for x, wanted in parts]
        return _result(*map(torch.cat, zip(*found, strict=True)))
    with torch.inference_mode():
        segments = torch.cat([_segment(class_logits(model(x)), wanted) for x, wanted in parts])
    segments = segments.clone()  # no longer of the inference mode
    total = torch.zeros_like(inputs)
    jobs = torch.arange(len(inputs) * settings.num_nodes, device=inputs.device)
    for chunk in jobs.split(batch_size):
        which, nodes = chunk // settings.num_nodes, chunk % settings.num_nodes
        slope = _slopes(model, inputs, classes, segments, which, nodes, settings)
        total.index_add_(0, which, slope)
    return _result((total * inputs).sum(1), segments)


def _grad_cam_with_backward(
    model: TorchUNet, x: torch.Tensor, wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and segments [N, H, W]."""

    def keep(activation: torch.Tensor) -> None:
        activation.retain_grad()

    with _kept(model, keep) as kept:
        logits = class_logits(model(x))
        segment = _segment(logits, wanted)
        model.zero_grad()
        _summed(logits, wanted, segment).backward()
    gradient = kept[0].grad
    assert gradient is not None
    return _cam(kept[0].detach(), gradient, x), segment


def _grad_cam_of_layer(
    model: TorchUNet, x: torch.Tensor, wanted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for a frozen model, in which only the layer's output has a gradient."""

    def begin(activation: torch.Tensor) -> None:
        activation.requires_grad_(True)

    with _kept(model, begin) as kept:
        logits = class_logits(model(x))
        segment = _segment(logits, wanted)
        (gradient,) = torch.autograd.grad(_summed(logits, wanted, segment), kept[0])
    return _cam(kept[0].detach(), gradient, x), segment


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


def _cam(activation: torch.Tensor, gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    weights = gradient.float().mean((2, 3), keepdim=True)
    cam = functional.relu((weights * activation.float()).sum(1, keepdim=True))
    return functional.interpolate(cam, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def _slopes(
    model: TorchUNet,
    inputs: torch.Tensor,
    classes: torch.Tensor,
    segments: torch.Tensor,
    which: torch.Tensor,
    nodes: torch.Tensor,
    settings: IntegratedGradients,
) -> torch.Tensor:
    """Weighted gradients [n, C, H, W] of n images `which` at the points `nodes` of their paths."""
    places, weights = (
        torch.from_numpy(values).to(inputs)[nodes, None, None, None] / 2
        for values in np.polynomial.legendre.leggauss(settings.num_nodes)
    )
    points = ((places + 0.5) * inputs[which]).requires_grad_(True)
    score = _summed(class_logits(model(points)), classes[which], segments[which])
    return weights * torch.autograd.grad(score, points)[0]


def _segment(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return logits.argmax(1) == wanted[:, None, None]


def _summed(logits: torch.Tensor, wanted: torch.Tensor, segment: torch.Tensor) -> torch.Tensor:
    """The logits [N, K, H, W] of the classes [N] in the segments [N, H, W], over all images."""
    which = torch.arange(len(logits), device=logits.device)
    return (logits[which, wanted] * segment).sum()


def _classes(model: TorchUNet, class_indices: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(class_indices, np.int64)).to(model.device)


def _result(attribution: torch.Tensor, segment: torch.Tensor) -> AttributionResult:
    return AttributionResult(
        attribution=attribution.detach().cpu().numpy(), segment=segment.cpu().numpy()
    )
