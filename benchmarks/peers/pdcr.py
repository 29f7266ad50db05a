"""ATE of input blocks as PdCR does it (arXiv 2602.20511) in PyTorch: as published, and tuned.

Both use given draws, so that they intervene with the very patches that our `Ate` puts in, and
visit the `blocks` bool [N, rows, columns] that do not touch the region; by default all of these.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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

    def one(inputs: Inputs, places: Sequence[_Place], ate: np.ndarray) -> tuple[float, int]:
        x, truth = channels_first(inputs.images, model.device), truth_of(inputs, model.device)
        (screen, full), count = _patches_of(inputs, settings, model.device), 0

        def effects(patches: torch.Tensor, place: _Place) -> torch.Tensor:
            occluded = x.repeat(len(patches), 1, 1, 1)
            _paste(occluded, patches, place, settings.block_size)
            return outcomes_of(model(occluded), truth) - base

        with torch.no_grad():
            base = outcomes_of(model(x), truth)
            for place in places:
                patches = screen(place)
                count += len(patches)
                if len(patches) and (effects(patches, place).abs() < settings.threshold).all():
                    continue
                patches = full(place)
                count += len(patches)
                ate[place] = float(effects(patches, place).mean())
        return float(base), count

    return _each(one, inputs, settings, blocks)


@tuned_convolutions()
def tuned(
    folded: TorchUNet,
    inputs: Inputs,
    settings: Ate,
    blocks: np.ndarray | None = None,
    batch_size: int | None = None,
) -> Arrays:
    """Interventions of many blocks of an image in calls of one size.

    First all screening interventions, then those on the blocks that pass; only the last call of
    each round is smaller.
    """
    batch_size = batch_size or inputs_per_call(folded.device, *inputs.images.shape[1:3])

    def one(inputs: Inputs, places: Sequence[_Place], ate: np.ndarray) -> tuple[float, int]:
        x, truth = channels_last(inputs.images, folded.device), truth_of(inputs, folded.device)
        screen, full = _patches_of(inputs, settings, folded.device)

        def effects(places: Sequence[_Place], patches_of: _PatchesOf) -> torch.Tensor:
            """Effects [blocks, patches] of the patches of each place."""
            jobs = [(place, patch) for place in places for patch in patches_of(place)]
            found = [torch.zeros(0, device=x.device)]
            for start in range(0, len(jobs), batch_size):
                chunk = jobs[start : start + batch_size]
                occluded = x.expand(len(chunk), -1, -1, -1)
                occluded = occluded.clone(memory_format=torch.channels_last)
                for image, (place, patch) in zip(occluded, chunk, strict=True):
                    _paste(image, patch, place, settings.block_size)
                found.append(outcomes_of(folded(occluded), truth) - base)
            return torch.cat(found).reshape(len(places), -1 if places else 0)

        with torch.inference_mode():
            base = outcomes_of(folded(x), truth)
            screened = effects(places, screen)
            if screened.shape[1]:
                passes = (screened.abs() >= settings.threshold).any(1).tolist()
                places = [place for place, passed in zip(places, passes, strict=True) if passed]
            effect = effects(places, full)
        for place, value in zip(places, effect.mean(1).tolist(), strict=True):
            ate[place] = value
        return float(base), screened.numel() + effect.numel()

    return _each(one, inputs, settings, blocks)


def _each(
    one: Callable[[Inputs, Sequence[_Place], np.ndarray], tuple[float, int]],
    inputs: Inputs,
    settings: Ate,
    blocks: np.ndarray | None,
) -> Arrays:
    """Image by image; `one` writes the effects of the places into an array."""
    found: list[dict[str, Any]] = []
    grid = grid_shape(inputs.images.shape[1:3], settings.block_size)
    for i, region in enumerate(inputs.targets.region):
        places = [
            place
            for place in np.ndindex(*grid)
            if (blocks is None or blocks[i][place])
            and not region[_square(place, settings.block_size)].any()
        ]
        ate = np.zeros(grid, np.float32)
        base, count = one(inputs.one(i), places, ate)
        ate = np.where(np.abs(ate) >= settings.threshold, ate, 0)
        found.append({"ate": ate, "base_dice": base, "num_interventions": count})
    return stack(found)


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
    targets = inputs.targets
    region, reference = (
        torch.from_numpy(np.asarray(array[0])).to(device)
        for array in (targets.region, targets.reference)
    )
    return Truth(int(targets.class_index[0]), region, reference & region)


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
