"""Effects of a network's parts in PyTorch, by hooks: one intervention at a time, and batched.

The outcome is the soft Dice, which rounding does not flip, and a part is replaced by what it is on
other images. Every intervention runs the whole network. Of the channels of a layer, only `every` so
many-th is replaced; the result [N, parts] holds the `effects` float64 in points (NaN where there
was no intervention), where one was `asked`, and the names of the `parts`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from benchmarks.arrays import Arrays, Inputs, part_name
from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.pdcr import soft_outcomes_of, truth_of
from benchmarks.peers.unet import DoubleConv, TorchUNet, channels_first, channels_last
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.explainers.parts.components import ComponentAte


class Site(NamedTuple):
    """A tensor of the network: what a module gives or is given, or some of its channels.

    Attributes:
      name: a layer's or a skip connection's, as ours calls it.
      module: whose tensor it is.
      is_input: whether it is what the module is given.
      channels: of that tensor.
      parts: None, all of it, and then its channels where these are parts.
    """

    name: str
    module: nn.Module
    is_input: bool
    channels: slice
    parts: tuple[int | None, ...] = (None,)


class _Job(NamedTuple):
    """An intervention: activations of another image, [1, c, h, w], and the channel (None: all)."""

    value: torch.Tensor
    channel: int | None


def find_sites(model: TorchUNet) -> list[Site]:
    """Layers after normalisation and activation, in order; then skip connections, deepest first."""
    config, layers = model.config, []
    if config.norm not in ("batch", "none") or config.upsample == "transposed" or config.head_relu:
        raise ConfigError(
            "the PyTorch peers of components know U-Nets with batch norm or none, without "
            "transposed convolutions and ReLU after the head; use --peer none for this model"
        )

    def layer(name: str, module: nn.Module, is_input: bool, count: int) -> None:
        layers.append(Site(name, module, is_input, slice(count), (None, *range(count))))

    encoder, decoder = (cast(list[DoubleConv], b) for b in (model.encoder, model.decoder))
    for side, blocks in (("encoder", encoder), ("decoder", decoder)):
        for level, block in enumerate(blocks):
            count = block.conv1.out_channels
            # What the second convolution is given: after normalisation and activation.
            layer(f"{side}/{level}/conv1", block.conv2, True, count)
            layer(f"{side}/{level}/conv2", block, False, count)
    layer("head", model.head, False, model.head.out_channels)
    for level, block in enumerate(decoder):
        source = len(encoder) - 2 - level
        count, total = config.encoder_channels[source], block.conv1.in_channels
        where = slice(count) if config.skip_first else slice(total - count, total)
        name = f"encoder/{source}/conv2 -> decoder/{level}/conv1"
        layers.append(Site(name, block, True, where))
    return layers


def original(model: TorchUNet, inputs: Inputs, settings: ComponentAte, every: int = 1) -> Arrays:
    """One intervention at a time, eagerly, channels first."""
    return _effects(model, 1, channels_first, inputs, settings, every)


@tuned_convolutions()
def tuned(folded: TorchUNet, inputs: Inputs, settings: ComponentAte, every: int = 1) -> Arrays:
    """The same with interventions on a site batched."""
    batch_size = inputs_per_call(folded.device, *inputs.images.shape[1:3])
    return _effects(folded, batch_size, channels_last, inputs, settings, every)


def first_order(model: TorchUNet, inputs: Inputs) -> np.ndarray:
    """Gradient x difference of all parts, from one backward pass per image: float64 [N, parts]."""
    sites, rows = find_sites(model), []
    assert inputs.others is not None
    for i, x in enumerate(channels_first(inputs.images, model.device).split(1)):
        with torch.no_grad():
            alike = channels_first(inputs.others[i], model.device).split(1)
            seen = [_tensors(model, other, sites)[1] for other in alike]
        logits, tensors = _tensors(model, x, sites)
        outcome = soft_outcomes_of(logits, truth_of(inputs.one(i), model.device)).sum()
        row: list[float] = []
        slopes = torch.autograd.grad(outcome, tensors)
        for site, slope, own, *put in zip(sites, slopes, tensors, *seen, strict=True):
            step = (torch.cat(put).mean(0, keepdim=True) - own)[:, site.channels]
            each = (slope[:, site.channels] * step.detach()).sum((0, 2, 3)).double()
            row += [float(each.sum() if c is None else each[c]) for c in site.parts]
        rows.append(row)
    return np.array(rows)


def _effects(
    model: TorchUNet,
    batch_size: int,
    layout: Callable[[np.ndarray, torch.device], torch.Tensor],
    inputs: Inputs,
    settings: ComponentAte,
    every: int,
) -> Arrays:
    assert inputs.others is not None
    if settings.outcome != "soft_dice":
        raise ValueError(f"outcome={settings.outcome!r}: the peers know soft_dice")
    sites, rows = find_sites(model), []
    parts = [(site.name, channel) for site in sites for channel in site.parts]
    asked = np.array([channel is None or channel % every == 0 for _, channel in parts])

    kept = torch.channels_last if batch_size > 1 else torch.contiguous_format

    def logits_of(site: Site, jobs: Sequence[_Job], x: torch.Tensor) -> torch.Tensor:
        found = []
        for start in range(0, len(jobs), batch_size):
            chunk = jobs[start : start + batch_size]
            images = x.expand(len(chunk), -1, -1, -1)
            with _hooked([site], lambda _, tensor, chunk=chunk: _replaced(site, tensor, chunk)):
                found.append(model(images.clone(memory_format=kept)))
        return torch.cat(found)

    for i, x in enumerate(layout(inputs.images, model.device).split(1)):
        truth, row = truth_of(inputs.one(i), model.device), []
        with torch.inference_mode():
            base = soft_outcomes_of(model(x), truth)
            alike = layout(inputs.others[i], model.device).split(1)
            seen = [_tensors(model, other, sites)[1] for other in alike]
            for site, *values in zip(sites, *seen, strict=True):
                chosen = [c for c in site.parts if c is None or c % every == 0]
                jobs = [_Job(value[:, site.channels], c) for c in chosen for value in values]
                found = soft_outcomes_of(logits_of(site, jobs, x), truth) - base
                row.append(found.double().reshape(len(chosen), len(values)).mean(1).cpu().numpy())
        rows.append(np.full(len(parts), np.nan))
        rows[-1][asked] = np.concatenate(row)
    count, names = (len(rows), 1), np.array([part_name(*part) for part in parts])
    found = {"parts": np.tile(names, count), "asked": np.tile(asked, count)}
    return found | {"effects": np.array(rows)}


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

    def before(number: int) -> Callable[..., Any]:
        return lambda _, given: see(number, given[0])

    def after(number: int) -> Callable[..., Any]:
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
