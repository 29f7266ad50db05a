"""Effects of a network's parts in PyTorch, by hooks: one intervention at a time, and batched.

The outcome is the soft Dice, which rounding does not flip, and a part is replaced by what it is on
other images. Every intervention runs the whole network.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np
import torch
from torch import nn

from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.pdcr import soft_outcomes_of, truth_of
from benchmarks.peers.results import part_name
from benchmarks.peers.unet import DoubleConv, TorchUNet, channels_first, channels_last
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import SegmentTarget


class Site(NamedTuple):
    """A tensor of the network: what a module gives or is given, or some of its channels.

    Attributes:
      name: a layer's or a skip connection's, as ours calls it.
      module: whose tensor it is.
      is_input: whether it is what the module is given.
      channels: of that tensor.
      by_channel: whether its channels are parts, too.
    """

    name: str
    module: nn.Module
    is_input: bool
    channels: slice
    by_channel: bool

    @property
    def parts(self) -> list[int | None]:
        """All of it, and then its channels where these are parts."""
        count = self.channels.stop - self.channels.start
        return [None, *range(count)] if self.by_channel else [None]


class _Job(NamedTuple):
    """An intervention: activations of another image, [1, c, h, w], and the channel (None: all)."""

    value: torch.Tensor
    channel: int | None


def find_sites(model: TorchUNet) -> list[Site]:
    """Layers after normalisation and activation, in order; then skip connections, deepest first."""
    config = model.config
    if config.norm not in ("batch", "none") or config.upsample == "transposed" or config.head_relu:
        raise ConfigError(
            "the PyTorch peers of components know U-Nets with batch norm or none, without "
            "transposed convolutions and ReLU after the head; use --peer none for this model"
        )
    layers, skips = [], []
    for side, blocks in (("encoder", model.encoder), ("decoder", model.decoder)):
        for level, block in enumerate(cast(list[DoubleConv], blocks)):
            count = slice(0, block.conv1.out_channels)
            # What the second convolution is given: after normalisation and activation.
            layers.append(Site(f"{side}/{level}/conv1", block.conv2, True, count, True))
            layers.append(Site(f"{side}/{level}/conv2", block, False, count, True))
    for level, block in enumerate(cast(list[DoubleConv], model.decoder)):
        source = len(model.encoder) - 2 - level
        count, total = config.encoder_channels[source], block.conv1.in_channels
        where = slice(0, count) if config.skip_first else slice(total - count, total)
        name = f"encoder/{source}/conv2 -> decoder/{level}/conv1"
        skips.append(Site(name, block, True, where, False))
    head = Site("head", model.head, False, slice(0, model.head.out_channels), True)
    return [*layers, head, *skips]


def part_names(model: TorchUNet) -> tuple[str, ...]:
    """Of all parts, in the order of what the functions below return."""
    sites = find_sites(model)
    return tuple(part_name(site.name, channel) for site in sites for channel in site.parts)


def effects_original(
    model: TorchUNet,
    images: np.ndarray,
    targets: SegmentTarget,
    others: np.ndarray,
    every: int = 1,
) -> np.ndarray:
    """One intervention at a time, eagerly, channels first.

    Args:
      model: in evaluation mode, on any device.
      images: float32 [N, H, W, C].
      targets: of the images; leaves [N, ...].
      others: float32 [N, R, H, W, C], R other images for each.
      every: intervene on every so many-th channel of a layer only, besides on all of it.

    Returns:
      float64 [N, parts], the mean over the replacements in points; NaN where there was no
      intervention.
    """

    def outcomes(site: Site, jobs: Sequence[_Job], x: torch.Tensor) -> torch.Tensor:
        found = []
        for job in jobs:
            with _hooked([site], lambda _, tensor, job=job: _replaced(site, tensor, [job])):
                found.append(model(x))
        return torch.cat(found)

    return _effects(model, outcomes, channels_first, images, targets, others, every)


@tuned_convolutions()
def effects_tuned(
    model: TorchUNet,
    images: np.ndarray,
    targets: SegmentTarget,
    others: np.ndarray,
    every: int = 1,
) -> np.ndarray:
    """The same with interventions on a site batched; `model` is from `tuned_copy`."""
    batch_size = inputs_per_call(model.device, *images.shape[1:3])

    def outcomes(site: Site, jobs: Sequence[_Job], x: torch.Tensor) -> torch.Tensor:
        found = []
        for start in range(0, len(jobs), batch_size):
            chunk = jobs[start : start + batch_size]
            with _hooked([site], lambda _, tensor, chunk=chunk: _replaced(site, tensor, chunk)):
                inputs = x.expand(len(chunk), -1, -1, -1)
                found.append(model(inputs.clone(memory_format=torch.channels_last)))
        return torch.cat(found)

    return _effects(model, outcomes, channels_last, images, targets, others, every)


def first_order(
    model: TorchUNet, images: np.ndarray, targets: SegmentTarget, others: np.ndarray
) -> np.ndarray:
    """Gradient x difference of all parts, from one backward pass per image: float64 [N, parts]."""
    sites, rows = find_sites(model), []
    for i, x in enumerate(channels_first(images, model.device).split(1)):
        with torch.no_grad():
            alike = channels_first(others[i], model.device).split(1)
            seen = [_tensors(model, other, sites)[1] for other in alike]
        logits, tensors = _tensors(model, x, sites)
        outcome = soft_outcomes_of(logits, truth_of(_one(targets, i), model.device)).sum()
        row: list[float] = []
        slopes = torch.autograd.grad(outcome, tensors)
        for site, slope, own, *put in zip(sites, slopes, tensors, *seen, strict=True):
            step = (torch.cat(put).mean(0, keepdim=True) - own)[:, site.channels]
            each = (slope[:, site.channels] * step.detach()).sum((0, 2, 3)).double()
            row += [float(each.sum()), *(each.tolist() if site.by_channel else [])]
        rows.append(row)
    return np.array(rows)


def _effects(
    model: TorchUNet,
    logits_of: Callable[[Site, Sequence[_Job], torch.Tensor], torch.Tensor],
    layout: Callable[[np.ndarray, torch.device], torch.Tensor],
    images: np.ndarray,
    targets: SegmentTarget,
    others: np.ndarray,
    every: int,
) -> np.ndarray:
    sites, rows = find_sites(model), []
    for i, x in enumerate(layout(images, model.device).split(1)):
        truth, row = truth_of(_one(targets, i), model.device), []
        with torch.inference_mode():
            base = soft_outcomes_of(model(x), truth)
            alike = layout(others[i], model.device).split(1)
            seen = [_tensors(model, other, sites)[1] for other in alike]
            for site, *values in zip(sites, *seen, strict=True):
                chosen = [c for c in site.parts if c is None or c % every == 0]
                jobs = [_Job(value[:, site.channels], c) for c in chosen for value in values]
                found = soft_outcomes_of(logits_of(site, jobs, x), truth) - base
                means = found.double().reshape(len(chosen), len(values)).mean(1).tolist()
                known = dict(zip(chosen, means, strict=True))
                row += [known.get(channel, float("nan")) for channel in site.parts]
        rows.append(row)
    return np.array(rows)


def _tensors(
    model: TorchUNet, x: torch.Tensor, sites: Sequence[Site]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits, and the tensor of every site (with channels beside the site's)."""
    found: dict[int, torch.Tensor] = {}
    with _hooked(sites, lambda number, tensor: found.update({number: tensor})):
        logits = model(x)
    return logits, [found[number] for number in range(len(sites))]


def _replaced(site: Site, tensor: torch.Tensor, jobs: Sequence[_Job]) -> torch.Tensor:
    """The tensor [N, C, h, w] with one of N interventions in each row."""
    tensor = tensor.clone()
    for row, job in zip(tensor[:, site.channels], jobs, strict=True):
        where = slice(None) if job.channel is None else job.channel
        row[where] = job.value[0, where]
    return tensor


@contextlib.contextmanager
def _hooked(
    sites: Sequence[Site], see: Callable[[int, torch.Tensor], torch.Tensor | None]
) -> Iterator[None]:
    """While the network runs, `see` is shown each site's tensor, and may give another for it."""

    def before(number: int) -> Callable[[nn.Module, tuple[torch.Tensor]], torch.Tensor | None]:
        return lambda _, given: see(number, given[0])

    def after(number: int) -> Callable[[nn.Module, Any, torch.Tensor], torch.Tensor | None]:
        return lambda _, given, made: see(number, made)

    handles = [
        site.module.register_forward_pre_hook(before(number))
        if site.is_input
        else site.module.register_forward_hook(after(number))
        for number, site in enumerate(sites)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _one(targets: SegmentTarget, index: int) -> SegmentTarget:
    """That of one image."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], targets)
