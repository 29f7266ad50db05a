"""ATE of input blocks as PdCR does it (arXiv 2602.20511) in PyTorch: as published, and tuned.

Both use given draws, so that they intervene with the very patches that our `Ate` puts in.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.results import AteResult
from benchmarks.peers.unet import (
    TorchUNet,
    channels_first,
    channels_last,
    class_logits,
    tuned_copy,
)
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import Ate
from jaxseg_xai.explainers.ate.ate import Draws

#: From the number of a block to its patches [k, C, b, b].
_PatchesOf = Callable[[int], torch.Tensor]


class _Place(NamedTuple):
    """A block: its number row by row, its row and its column."""

    number: int
    row: int
    column: int


class _Truth(NamedTuple):
    """What outcomes are measured against, on the model's device: c, R and T in R, bool [H, W]."""

    class_index: int
    region: torch.Tensor
    reference: torch.Tensor


def ate_original(
    model: TorchUNet,
    image: np.ndarray,
    target: SegmentTarget,
    draws: Draws,
    settings: Ate,
    blocks: np.ndarray | None = None,
) -> AteResult:
    """Block after block, eagerly, channels first, as `occlusion_sensitivity_optimized` of PdCR.

    One call holds the screening patches of a block; if one of them has an effect, a second call
    holds all its patches. With `perturbation="zero"` one call holds the block set to 0.

    Args:
      model: in evaluation mode.
      image: float32 [H, W, C].
      target: of this image, without a batch axis; `reference` is T, `region` is R.
      draws: of this image, with a batch axis of one; not used by "zero".
      settings: of the method; `batch_size` is not used.
      blocks: bool [rows, columns], the only blocks to intervene on; default: all.

    Returns:
      The ATE of the blocks; of those that touch the region 0.
    """
    inputs, truth = channels_first(image[None], model.device), truth_of(target, model.device)
    screen, full = _patches_of(draws, image.shape[-1], settings, model.device)
    ate = np.zeros(settings.grid(*image.shape[:2]), np.float32)
    count = 0

    def effects(patches: torch.Tensor, place: _Place) -> torch.Tensor:
        occluded = inputs.repeat(len(patches), 1, 1, 1)
        _paste(occluded, patches, place, settings.block_size)
        return outcomes_of(model(occluded), truth) - base

    with torch.no_grad():
        base = outcomes_of(model(inputs), truth)
        for place in _visited(target, settings, blocks):
            patches = screen(place.number)
            if len(patches):
                count += len(patches)
                if bool((effects(patches, place).abs() < settings.threshold).all()):
                    continue
            patches = full(place.number)
            count += len(patches)
            effect = effects(patches, place).mean()
            if effect.abs() >= settings.threshold:
                ate[place.row, place.column] = float(effect)
    return AteResult(ate=ate, base_dice=float(base), num_interventions=count)


@tuned_convolutions()
def ate_tuned(
    model: TorchUNet,
    image: np.ndarray,
    target: SegmentTarget,
    draws: Draws,
    settings: Ate,
    blocks: np.ndarray | None = None,
    batch_size: int | None = None,
) -> AteResult:
    """Interventions of many blocks in calls of one size, on a folded, channels-last copy.

    First all screening interventions, then those on the blocks that pass; only the last call of
    each round is smaller.

    Args:
      model: in evaluation mode.
      image: float32 [H, W, C].
      target: of this image, without a batch axis; `reference` is T, `region` is R.
      draws: of this image, with a batch axis of one; not used by "zero".
      settings: of the method; its `batch_size` is not used.
      blocks: bool [rows, columns], the only blocks to intervene on; default: all.
      batch_size: inputs per call; default: what suits the device.

    Returns:
      The ATE of the blocks; of those that touch the region 0.
    """
    model = tuned_copy(model)
    inputs, truth = channels_last(image[None], model.device), truth_of(target, model.device)
    screen, full = _patches_of(draws, image.shape[-1], settings, model.device)
    batch_size = batch_size or inputs_per_call(model.device, *image.shape[:2])

    def effects(places: list[_Place], patches_of: _PatchesOf) -> torch.Tensor:
        """Effects [blocks, patches] of the patches of each place."""
        jobs = [(place, patch) for place in places for patch in patches_of(place.number)]
        found = [torch.zeros(0, device=inputs.device)]
        for start in range(0, len(jobs), batch_size):
            chunk = jobs[start : start + batch_size]
            occluded = inputs.expand(len(chunk), -1, -1, -1)
            occluded = occluded.clone(memory_format=torch.channels_last)
            for one, (place, patch) in zip(occluded, chunk, strict=True):
                _paste(one, patch, place, settings.block_size)
            found.append(outcomes_of(model(occluded), truth) - base)
        return torch.cat(found).reshape(len(places), -1 if places else 0)

    places = list(_visited(target, settings, blocks))
    ate = np.zeros(settings.grid(*image.shape[:2]), np.float32)
    with torch.inference_mode():
        base = outcomes_of(model(inputs), truth)
        screened = effects(places, screen)
        count = screened.numel()
        if screened.shape[1]:
            passes = (screened.abs() >= settings.threshold).any(1).tolist()
            places = [place for place, passed in zip(places, passes, strict=True) if passed]
        effect = effects(places, full)
        count += effect.numel()
    for place, value in zip(places, effect.mean(1).tolist(), strict=True):
        ate[place.row, place.column] = value if abs(value) >= settings.threshold else 0.0
    return AteResult(ate=ate, base_dice=float(base), num_interventions=count)


def _visited(target: SegmentTarget, settings: Ate, blocks: np.ndarray | None) -> list[_Place]:
    """The blocks asked for that do not touch the region, row by row."""
    region, side = np.asarray(target.region), settings.block_size
    rows, columns = settings.grid(*region.shape)
    places = [_Place(y * columns + x, y, x) for y in range(rows) for x in range(columns)]
    return [
        place
        for place in places
        if (blocks is None or blocks[place.row, place.column])
        and not region[_square(place, side)].any()
    ]


def _square(place: _Place, side: int) -> tuple[slice, slice]:
    return (
        slice(place.row * side, (place.row + 1) * side),
        slice(place.column * side, (place.column + 1) * side),
    )


def _paste(images: torch.Tensor, patches: torch.Tensor, place: _Place, side: int) -> None:
    """Put patches [..., C, b, b] into a block of images [..., C, H, W], in place."""
    square = images[(..., *_square(place, side))]
    # A block at the bottom or right edge may be cut off.
    square.copy_(patches[..., : square.shape[-2], : square.shape[-1]])


def _patches_of(
    draws: Draws, channels: int, settings: Ate, device: torch.device
) -> tuple[_PatchesOf, _PatchesOf]:
    """The screening and the full patches of a block, given its number."""
    if settings.perturbation not in ("patches", "zero"):
        raise ValueError(f"perturbation={settings.perturbation!r}: the peers know patches and zero")
    if settings.outcome != "dice" or settings.sequential:
        raise ValueError("the peers know the outcome dice and all patches, not sequential sampling")
    if settings.perturbation == "zero":
        side = settings.block_size
        zero = torch.zeros(1, channels, side, side, device=device)
        return lambda number: zero[:0], lambda number: zero
    patches = channels_first(np.asarray(draws.patches), device)
    screen, full = (
        torch.from_numpy(np.asarray(d[0], np.int64)).to(device) for d in (draws.screen, draws.full)
    )
    return lambda number: patches[screen[number]], lambda number: patches[full[number]]


def truth_of(target: SegmentTarget, device: torch.device) -> _Truth:
    region, reference = (
        torch.from_numpy(np.asarray(array)).to(device)
        for array in (target.region, target.reference)
    )
    return _Truth(int(target.class_index), region, reference & region)


def outcomes_of(logits: torch.Tensor, truth: _Truth) -> torch.Tensor:
    """Dice points [N] in the region of logits [N, K, H, W]."""
    segment = (class_logits(logits).argmax(1) == truth.class_index) & truth.region
    both, a = ((segment & truth.reference).sum((1, 2)).float(), segment.sum((1, 2)).float())
    return 100 * (2 * both / (a + truth.reference.sum() + 1e-10))


def soft_outcomes_of(logits: torch.Tensor, truth: _Truth) -> torch.Tensor:
    """The same with probabilities in the place of the segment."""
    probability = torch.softmax(class_logits(logits), 1)[:, truth.class_index] * truth.region
    both = (probability * truth.reference).sum((1, 2))
    return 100 * 2 * both / (probability.sum((1, 2)) + truth.reference.sum() + 1e-10)
