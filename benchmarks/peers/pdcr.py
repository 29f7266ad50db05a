"""ATE of input blocks as PdCR does it (arXiv 2602.20511) in PyTorch: as published, and tuned.

Both use given draws, so that they intervene with the very patches that ours puts in, and visit the
`blocks` bool [N, rows, columns] that do not touch the region; by default all of these.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.arrays import Arrays, Inputs, stack
from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.unet import TorchUNet, channels_first, channels_last, class_logits
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.ops.blocks import grid_shape

#: Row and column of a block.
_Place = tuple[int, int]
#: From a block to its patches [k, C, b, b].
_PatchesOf = Callable[[_Place], torch.Tensor]


class Truth(NamedTuple):
    """What outcomes are measured against, on the model's device: c, R and T in R, bool [H, W]."""

    class_index: int
    region: torch.Tensor
    reference: torch.Tensor


def original(
    model: TorchUNet, inputs: Inputs, settings: Ate, blocks: np.ndarray | None = None
) -> Arrays:
    """Block after block, eagerly, channels first, as `occlusion_sensitivity_optimized` of PdCR.

    One call holds the screening patches of a block; if one of them has an effect, a second call
    holds all its patches. With `perturbation="zero"` one call holds the block set to 0.
    """
    return _explain(model, inputs, settings, blocks, channels_first, together=1, batch_size=None)


@tuned_convolutions()
def tuned(
    folded: TorchUNet,
    inputs: Inputs,
    settings: Ate,
    blocks: np.ndarray | None = None,
    batch_size: int | None = None,
) -> Arrays:
    """Interventions of all blocks of an image in calls of one size.

    First all screening interventions, then those on the blocks that pass; only the last call of
    each round is smaller.
    """
    batch_size = batch_size or inputs_per_call(folded.device, *inputs.images.shape[1:3])
    return _explain(folded, inputs, settings, blocks, channels_last, None, batch_size)


def _explain(
    model: TorchUNet,
    inputs: Inputs,
    settings: Ate,
    blocks: np.ndarray | None,
    layout: Callable[[np.ndarray, torch.device], torch.Tensor],
    together: int | None,
    batch_size: int | None,
) -> Arrays:
    """So many blocks of an image together (None: all), in calls of so many inputs (None: all)."""
    found, side = [], settings.block_size
    grid = grid_shape(inputs.images.shape[1:3], side)
    for i, region in enumerate(inputs.targets.region):
        places = [
            place
            for place in np.ndindex(*grid)
            if (blocks is None or blocks[i][place]) and not region[_square(place, side)].any()
        ]
        one, ate, count = inputs.one(i), np.zeros(grid, np.float32), 0
        screen, full = _patches_of(one, settings, model.device)
        with torch.inference_mode():
            x, truth = layout(one.images, model.device), truth_of(one, model.device)
            base = outcomes_of(model(x), truth)
            effects = functools.partial(_effects, model, x, truth, base, side, batch_size)
            for start in range(0, len(places), step := together or max(len(places), 1)):
                some = places[start : start + step]
                screened = effects(some, screen)
                if screened.shape[1]:
                    passes = (screened.abs() >= settings.threshold).any(1).tolist()
                    some = [place for place, passed in zip(some, passes, strict=True) if passed]
                effect = effects(some, full)
                count += screened.numel() + effect.numel()
                for place, value in zip(some, effect.mean(1).tolist(), strict=True):
                    ate[place] = value if abs(value) >= settings.threshold else 0
        found.append({"ate": ate, "base_dice": float(base), "num_interventions": count})
    return stack(found)


def _effects(model, x, truth, base, side, batch_size, places, patches_of) -> torch.Tensor:
    """Effects [blocks, patches] of the patches of each place."""
    jobs = [(place, patch) for place in places for patch in patches_of(place)]
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    found = [torch.zeros(0, device=x.device)]
    for start in range(0, len(jobs), size := batch_size or max(len(jobs), 1)):
        chunk, at = jobs[start : start + size], 0
        occluded = x.expand(len(chunk), -1, -1, -1).clone(memory_format=layout)
        for place, group in itertools.groupby(chunk, lambda job: job[0]):
            patches = torch.stack([patch for _, patch in group])
            _paste(occluded[at : at + len(patches)], patches, place, side)
            at += len(patches)
        found.append(outcomes_of(model(occluded), truth) - base)
    return torch.cat(found).reshape(len(places), -1 if places else 0)


def _square(place: _Place, side: int) -> tuple[slice, ...]:
    return tuple(slice(k * side, (k + 1) * side) for k in place)


def _paste(images: torch.Tensor, patches: torch.Tensor, place: _Place, side: int) -> None:
    """Put patches [..., C, b, b] into a block of images [..., C, H, W], in place."""
    square = images[(..., *_square(place, side))]
    # A block at the bottom or right edge may be cut off.
    square.copy_(patches[..., : square.shape[-2], : square.shape[-1]])


def _patches_of(
    inputs: Inputs, settings: Ate, device: torch.device
) -> tuple[_PatchesOf, _PatchesOf]:
    """The screening and the full patches of a block of the one image."""
    if settings.perturbation not in ("patches", "zero"):
        raise ValueError(f"perturbation={settings.perturbation!r}: the peers know patches and zero")
    if settings.outcome != "dice" or settings.sequential:
        raise ValueError("the peers know the outcome dice and all patches, not sequential sampling")
    side, (_, *shape, channels) = settings.block_size, inputs.images.shape
    if settings.perturbation == "zero":
        zero = torch.zeros(1, channels, side, side, device=device)
        return lambda place: zero[:0], lambda place: zero
    assert inputs.draws is not None
    patches = channels_first(np.asarray(inputs.draws.patches), device)
    grid = grid_shape(shape, side)
    screen, full = (
        torch.from_numpy(np.asarray(drawn[0], np.int64)).reshape(*grid, -1).to(device)
        for drawn in (inputs.draws.screen, inputs.draws.full)
    )
    return lambda place: patches[screen[place]], lambda place: patches[full[place]]


def truth_of(inputs: Inputs, device: torch.device) -> Truth:
    """Of the one image."""
    region, reference = (
        torch.from_numpy(np.asarray(array[0])).to(device)
        for array in (inputs.targets.region, inputs.targets.reference)
    )
    return Truth(int(inputs.targets.class_index[0]), region, reference & region)


def outcomes_of(logits: torch.Tensor, truth: Truth) -> torch.Tensor:
    """Dice points [N] in the region of logits [N, K, H, W]."""
    segment = (class_logits(logits).argmax(1) == truth.class_index) & truth.region
    both, a = ((segment & truth.reference).sum((1, 2)).float(), segment.sum((1, 2)).float())
    return 100 * (2 * both / (a + truth.reference.sum() + 1e-10))


def soft_outcomes_of(logits: torch.Tensor, truth: Truth) -> torch.Tensor:
    """The same with probabilities in the place of the segment."""
    probability = torch.softmax(class_logits(logits), 1)[:, truth.class_index] * truth.region
    both = (probability * truth.reference).sum((1, 2))
    return 100 * 2 * both / (probability.sum((1, 2)) + truth.reference.sum() + 1e-10)
