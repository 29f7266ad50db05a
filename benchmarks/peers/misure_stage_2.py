"""Stage 2 of MiSuRe in PyTorch: the published loss on a soft mask, and our search for a region.

Of images [N, C, *S], with the classes `wanted` int64 [N], regions bool [N, *S] and what stage 1
gave: segments, sufficient regions, dilations and the Dice trace.
"""

import numpy as np
import torch
from torch.nn import functional

from benchmarks.arrays import Arrays
from benchmarks.peers.unet import class_logits, segment_of
from benchmarks.peers.unet import dice as dice_of
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.ops.dilation import ellipse


def minimal_masks(model, images, wanted, regions, stage_1, settings: MisurePaper) -> Arrays:
    """The stage 2 of `MisurePaper`."""
    if settings.mask_stride > 1 or settings.tv_weight:
        raise ValueError("the peers know no mask_stride and no tv_weight")
    segment, sufficient = stage_1[:2]
    images = images * sufficient[:, None]
    mask = torch.where(segment, 1.0, torch.where(sufficient, 0.5, 0.0)).to(images.dtype)
    mask.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [mask], lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    losses = []
    for _ in range(settings.num_iterations):
        optimizer.zero_grad()
        fine = mask * sufficient
        logits = class_logits(model(images * fine[:, None]))
        loss = _loss(fine, logits, segment, wanted, regions, settings)
        loss.sum().backward()
        optimizer.step()
        with torch.no_grad():
            mask.clamp_(0.0, 1.0)
        losses.append(loss.detach())
    with torch.no_grad():
        final = mask * sufficient
        final = torch.where(final >= settings.cut, final, 0.0)
        minimal = segment_of(model(images * final[:, None]), wanted) & regions
        dice = dice_of(minimal, segment)
    found = segment.flatten(1).any(1)
    return _result(
        stage_1,
        mask=final,
        trace=torch.where(found[:, None], torch.stack(losses, 1), torch.nan),
        dice_minimal=torch.where(found, dice, torch.nan),
    )


def _loss(mask, logits, segment, wanted, regions, settings: MisurePaper) -> torch.Tensor:
    """The loss [N] of masks [N, *S] whose inputs give logits [N, K, *S]."""
    each = torch.arange(len(wanted), device=wanted.device)
    probability = torch.softmax(logits, 1)[each, wanted]
    miss_c = 1 - dice_of(probability * regions, segment)
    miss_0 = 1 - dice_of((1 - probability) * regions, ~segment & regions)
    loss = settings.foreground_weight * miss_c
    loss = loss + settings.background_weight * (miss_0 + miss_c) / 2
    return loss + settings.l1_weight * mask.abs().flatten(1).mean(1)


def minimal_regions(model, images, wanted, regions, stage_1, settings: Misure) -> Arrays:
    """The stage 2 of `Misure`, one image after the other.

    Written from its docstring, with Python's own ifs, to check ours against, not for speed.
    """
    segments, sufficient, dilations, _ = stage_1
    each = zip(images.split(1), wanted, regions, segments, sufficient, dilations, strict=True)
    found = [_search(model, settings, *one) for one in each]
    level, trace, dice = map(torch.stack, zip(*found, strict=True))
    return _result(stage_1, mask=level, trace=trace, dice_minimal=dice)


def _search(
    model, settings: Misure, image, wanted, region, segment, sufficient, dilations
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One image: the best level, the areas, and the Dice of a second look."""
    areas = torch.full((settings.num_iterations,), torch.nan, device=image.device)
    if not segment.any():
        return image.new_zeros(segment.shape), areas, areas.new_tensor(torch.nan)
    level = _first_level(segment, sufficient, int(dilations), settings.element_size).to(image)
    best, best_area = level, float(sufficient.sum())
    first, second = torch.zeros_like(level), torch.zeros_like(level)
    rate, multiplier, misses, stale, mark = settings.learning_rate, 1.0, 0, 0, best_area
    for step in range(1, settings.num_iterations + 1):
        if stale >= settings.patience:
            break
        # Straight through: the gradient with respect to the region is taken for the level's.
        hard = (level > 0.5).to(image).requires_grad_(True)
        logits = class_logits(model(image * hard))
        probability = torch.softmax(logits, 1)[:, wanted] * region
        miss = 1 - dice_of(probability, segment[None])[0]
        loss = multiplier * miss + hard.sum() / sufficient.sum()
        gradient = torch.autograd.grad(loss, hard)[0] * sufficient
        inside = (logits.argmax(1) == wanted) & region
        enough = bool(dice_of(inside, segment[None])[0] >= settings.tau)
        area = float(hard.detach().sum())
        areas[step - 1] = area / segment.sum()

        if enough and area <= best_area:
            best, best_area = level, area
        if best_area < 0.99 * mark:
            stale, mark = 0, best_area
        else:
            stale += 1
        if enough:
            misses, rate = 0, min(1.05 * rate, settings.learning_rate)
        else:
            misses += 1
        multiplier *= float(np.exp((-1 if enough else 1) * settings.multiplier_rate))
        multiplier = min(max(multiplier, 1e-3), 1e5)

        back = misses > settings.max_misses
        first = 0.5 * (0 if back else first) + 0.5 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        if back:
            level, rate, misses = best, rate / 2, 0
        else:
            direction = first / (1 - 0.5**step)
            direction = direction / ((second / (1 - 0.9**step)).sqrt() + 1e-8)
            level = (level - rate * direction).clamp(0, 1)
    with torch.no_grad():
        kept = image * (best > 0.5)
        found = segment_of(model(kept), wanted[None]) & region
        return best, areas, dice_of(found, segment[None])[0]


def _first_level(
    segment: torch.Tensor, sufficient: torch.Tensor, dilations: int, element_size: int
) -> torch.Tensor:
    """Levels [H, W]: at least 0.8 on Y, from 0.7 down to 0.52 outwards, no two neighbours alike."""
    layers, reached = torch.zeros(segment.shape, device=segment.device), segment[None]
    for _ in range(dilations):
        layers += ~reached[0]
        reached = dilated(reached, element_size)
    y, x = np.indices(segment.shape)
    spread = torch.from_numpy((0.7548776662466927 * y + 0.5698402909980532 * x) % 1)
    spread = spread.to(segment.device).float()
    # `layers` counts the dilations after which a pixel was still outside: 1 for the first ring.
    ring = 0.52 + 0.18 * (1 - (layers - spread) / max(dilations, 1))
    return torch.where(segment, 0.8 + 0.2 * spread, torch.where(sufficient, ring, 0.0))


def _result(stage_1: tuple[torch.Tensor, ...], **stage_2: torch.Tensor) -> Arrays:
    names = ("segment", "sufficient", "dilations", "dice_trace")
    results = dict(zip(names, stage_1, strict=True)) | stage_2
    return {name: value.cpu().numpy() for name, value in results.items()}


def dilated(regions: torch.Tensor, element_size: int) -> torch.Tensor:
    """Regions bool [N, *S] dilated once."""
    kernel = torch.from_numpy(ellipse(element_size, regions.ndim - 1)).to(regions.device).float()
    convolve = functional.conv3d if regions.ndim == 4 else functional.conv2d
    return convolve(regions[:, None].float(), kernel[None, None], padding="same")[:, 0] > 0.5
