"""ATE of input blocks as PdCR does it (arXiv 2602.20511) in PyTorch: as published, and tuned.

Both use given draws, so that they intervene with the very patches that ours puts in, and visit
those of the inputs' blocks that do not touch the region.
"""

import itertools
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.arrays import Arrays, Inputs, stack
from benchmarks.peers.running import ALL, ways
from benchmarks.peers.unet import TorchUNet, channels_first, class_logits, dice
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.ops.blocks import grid_shape

#: Position of a block along each axis.
_Place = tuple[int, ...]


class Truth(NamedTuple):
    """What outcomes are measured against, on the model's device: c, R and T in R, bool [*S]."""

    class_index: int
    region: torch.Tensor
    reference: torch.Tensor


@torch.inference_mode()
def _explain(
    model: TorchUNet,
    x: torch.Tensor,
    inputs: Inputs,
    settings: Ate,
    size: int,
    num_blocks: int,
) -> Arrays:
    """So many blocks of one image together, in calls of at most `size` inputs."""
    if settings.outcome != "dice" or settings.sequential:
        raise ValueError("the peers know the outcome dice and all patches, not sequential sampling")
    side, truth, region = settings.block_size, truth_of(inputs, x.device), inputs.targets.region[0]
    ate, count = np.zeros(grid_shape(x.shape[2:], side), np.float32), 0
    looked_at = np.ones(ate.shape, bool) if inputs.blocks is None else inputs.blocks[0]
    places = [
        place
        for place in np.ndindex(*ate.shape)
        if looked_at[place] and not region[_square(place, side)].any()
    ]
    patches = channels_first(np.asarray(inputs.draws.patches), x.device)
    screen, full = (
        np.asarray(drawn[0]).reshape(*ate.shape, -1)
        for drawn in (inputs.draws.screen, inputs.draws.full)
    )
    last = torch.channels_last_3d if x.ndim == 5 else torch.channels_last
    layout = torch.contiguous_format if x.is_contiguous() else last
    base = outcomes_of(model(x), truth)

    def effects(places: list[_Place], drawn: np.ndarray) -> torch.Tensor:
        """Of the patches of each place, [places, patches]."""
        jobs = [(place, which) for place in places for which in drawn[place].tolist()]
        found = [torch.zeros(0, device=x.device)]
        for start in range(0, len(jobs), size):
            chunk, at = jobs[start : start + size], 0
            occluded = x.expand(len(chunk), *x.shape[1:]).clone(memory_format=layout)
            for place, group in itertools.groupby(chunk, lambda job: job[0]):
                put = patches[[which for _, which in group]]
                square = occluded[(slice(at, at + len(put)), slice(None), *_square(place, side))]
                # A block at the end of an axis may be cut off.
                square.copy_(put[(..., *map(slice, square.shape[2:]))])
                at += len(put)
            found.append(outcomes_of(model(occluded), truth) - base)
        return torch.cat(found).reshape(len(places), -1 if places else 0)

    for start in range(0, len(places), num_blocks):
        some = places[start : start + num_blocks]
        screened = effects(some, screen)
        if screened.shape[1]:
            passes = (screened.abs() >= settings.threshold).any(1).tolist()
            some = [place for place, passed in zip(some, passes, strict=True) if passed]
        effect = effects(some, full)
        count += screened.numel() + effect.numel()
        for place, value in zip(some, effect.mean(1).tolist(), strict=True):
            ate[place] = value if abs(value) >= settings.threshold else 0
    found = {"ate": ate, "base_dice": float(base), "num_interventions": count}
    return stack([found])


def _square(place: _Place, side: int) -> tuple[slice, ...]:
    return tuple(slice(k * side, (k + 1) * side) for k in place)


def truth_of(inputs: Inputs, device: torch.device) -> Truth:
    """Of the one image."""
    region, reference = (
        torch.from_numpy(np.asarray(array[0])).to(device)
        for array in (inputs.targets.region, inputs.targets.reference)
    )
    return Truth(int(inputs.targets.class_index[0]), region, reference & region)


def outcomes_of(logits: torch.Tensor, truth: Truth) -> torch.Tensor:
    """Dice points [N] in the region of logits [N, K, *S]."""
    segment = class_logits(logits).argmax(1) == truth.class_index
    return 100 * dice(segment & truth.region, truth.reference)


def soft_outcomes_of(logits: torch.Tensor, truth: Truth) -> torch.Tensor:
    """The same with probabilities in the place of the segment."""
    probability = torch.softmax(class_logits(logits), 1)[:, truth.class_index]
    return 100 * dice(probability * truth.region, truth.reference)


#: Block after block, as `occlusion_sensitivity_optimized` of PdCR: one call holds the screening
#: patches of a block (if there are any); if one of them has an effect, a second all its patches.
#: Tuned, interventions of all blocks of an image in calls of one size: first all screening ones,
#: then those on the blocks that pass; only the last call of each round is smaller.
original, tuned = ways(
    _explain, {"size": ALL, "num_blocks": 1}, {"num_images": 1, "num_blocks": ALL}
)
