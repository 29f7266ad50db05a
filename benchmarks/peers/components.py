"""Effects of a network's parts in PyTorch, by hooks: one intervention at a time, and batched.

The outcome is the soft Dice, which rounding does not flip, and a part is replaced by what it is on
other images. Every intervention runs the whole network. Of the channels of a layer, every so
many-th is replaced; the result [N, parts] holds the `effects` float64 in points (NaN where there
was no intervention), where one was `asked`, and the names of the `parts`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from benchmarks.arrays import Arrays, Inputs, join, part_name
from benchmarks.peers.pdcr import soft_outcomes_of, truth_of
from benchmarks.peers.running import one_by_one, ways
from benchmarks.peers.unet import DoubleConv, TorchUNet, channels_first
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


def first_order(model: TorchUNet, inputs: Inputs) -> np.ndarray:
    """Gradient x difference of all parts, from one backward pass per image: float64 [N, parts]."""
    return one_by_one(_first_order, model, inputs, None)["first_order"]


def _first_order(model: TorchUNet, x, inputs: Inputs, settings: None, size: int) -> Arrays:
    sites, row = find_sites(model), []
    with torch.no_grad():
        alike = channels_first(inputs.others[0], x.device).split(1)
        seen = [_tensors(model, other, sites)[1] for other in alike]
    logits, tensors = _tensors(model, x, sites)
    outcome = soft_outcomes_of(logits, truth_of(inputs, x.device)).sum()
    slopes = torch.autograd.grad(outcome, tensors)
    for site, slope, own, *put in zip(sites, slopes, tensors, *seen, strict=True):
        step = (torch.cat(put).mean(0, keepdim=True) - own)[:, site.channels]
        each = (slope[:, site.channels] * step.detach()).sum((0, 2, 3)).double()
        row += [float(each.sum() if c is None else each[c]) for c in site.parts]
    return {"first_order": np.array([row])}


@torch.inference_mode()
def _effects(model: TorchUNet, x, inputs: Inputs, settings: ComponentAte, size: int) -> Arrays:
    """Of one image."""
    if settings.outcome != "soft_dice":
        raise ValueError(f"outcome={settings.outcome!r}: the peers know soft_dice")
    sites, truth, rows = find_sites(model), truth_of(inputs, x.device), []
    kept = torch.channels_last if size > 1 else torch.contiguous_format

    def logits_of(site: Site, jobs: Sequence[tuple[torch.Tensor, int | None]]) -> torch.Tensor:
        """Of one intervention each: activations [1, c, h, w], and the channel (None: all)."""
        found = []
        for start in range(0, len(jobs), size):
            chunk = jobs[start : start + size]

            def put(_: int, tensor: torch.Tensor, chunk: Any = chunk) -> torch.Tensor:
                tensor = tensor.clone()
                for row, (value, channel) in zip(tensor[:, site.channels], chunk, strict=True):
                    where = slice(None) if channel is None else channel
                    row[where] = value[0, where]
                return tensor

            with _hooked([site], put):
                images = x.expand(len(chunk), -1, -1, -1)
                found.append(model(images.clone(memory_format=kept)))
        return torch.cat(found)

    base = soft_outcomes_of(model(x), truth)
    alike = channels_first(inputs.others[0], x.device).contiguous(memory_format=kept).split(1)
    seen = [_tensors(model, other, sites)[1] for other in alike]
    for site, *values in zip(sites, *seen, strict=True):
        asked = [c is None or c % inputs.every == 0 for c in site.parts]
        chosen = [c for c, wanted in zip(site.parts, asked, strict=True) if wanted]
        jobs = [(value[:, site.channels], c) for c in chosen for value in values]
        found = soft_outcomes_of(logits_of(site, jobs), truth) - base
        row = np.full(len(asked), np.nan)
        row[asked] = found.double().reshape(len(chosen), len(values)).mean(1).cpu().numpy()
        names = np.array([part_name(site.name, channel) for channel in site.parts])
        rows.append({"parts": names, "asked": np.array(asked), "effects": row})
    return {name: one[None] for name, one in join(rows).items()}


def _tensors(
    model: TorchUNet, x: torch.Tensor, sites: Sequence[Site]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits, and the tensor of every site (with channels beside the site's)."""
    found: dict[int, torch.Tensor] = {}
    with _hooked(sites, lambda number, tensor: found.update({number: tensor})):
        logits = model(x)
    return logits, [found[number] for number in range(len(sites))]


@contextlib.contextmanager
def _hooked(
    sites: Sequence[Site], see: Callable[[int, torch.Tensor], torch.Tensor | None]
) -> Iterator[None]:
    """While the network runs, `see` is shown each site's tensor, and may give another for it."""

    with contextlib.ExitStack() as hooks:
        for number, site in enumerate(sites):
            module: Any = site.module
            if site.is_input:
                hook = module.register_forward_pre_hook(
                    lambda _, given, number=number: see(number, given[0])
                )
            else:
                hook = module.register_forward_hook(
                    lambda _, given, made, number=number: see(number, made)
                )
            hooks.enter_context(hook)
        yield


#: One intervention at a time; those on a site batched.
original, tuned = ways(_effects, tuned={"num_images": 1})
