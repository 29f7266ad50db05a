"""MiSuRe (arXiv 2406.12173) in PyTorch: as it is usually written, and as fast as PyTorch goes.

Both take the settings of our `MisurePaper`, and a region where not the whole image is meant.
"""

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers.results import MisureResult
from benchmarks.peers.unet import TorchUNet, channels_first, class_logits, tuned_copy
from benchmarks.validation import steady
from jaxseg_xai.explainers import MisurePaper
from jaxseg_xai.perturbations.dilation import ellipse

#: Images at a time of the tuned form: fewer and more were slower on two cores.
BATCH_SIZE = 8


def explain_original(
    model: TorchUNet,
    images: np.ndarray,
    class_indices: np.ndarray,
    settings: MisurePaper,
    regions: np.ndarray | None = None,
) -> MisureResult:
    """One image at a time, eagerly, channels first, AdamW on a leaf mask.

    The paper's code is not public; this is what a plain reading of it gives. Nothing freezes the
    network, so every backward pass computes the gradients of its weights too, as it does wherever
    `requires_grad_(False)` is forgotten.

    Args:
      model: in evaluation mode.
      images: float32 [N, H, W, C], normalised; 0 is the baseline.
      class_indices: int [N], the class explained of each image.
      settings: of the method.
      regions: bool [N, H, W], the pixels that count; all where left out.

    Returns:
      The result for N images.
    """
    results = []
    for i in range(len(images)):
        one = slice(i, i + 1)
        inputs, wanted = channels_first(images[one]), _integers(class_indices[one])
        results.append(_explain(model, inputs, wanted, _tensor(regions, images)[one], settings))
    model.zero_grad(set_to_none=True)
    return _concatenate(results)


def explain_tuned(
    model: TorchUNet,
    images: np.ndarray,
    class_indices: np.ndarray,
    settings: MisurePaper,
    regions: np.ndarray | None = None,
    batch_size: int = BATCH_SIZE,
) -> MisureResult:
    """Many images together, on a frozen, folded, channels-last copy of the network.

    One AdamW moves all masks: a mask's gradient and moments are its own, so the losses are summed.

    Args:
      model: in evaluation mode.
      images: float32 [N, H, W, C], normalised; 0 is the baseline.
      class_indices: int [N], the class explained of each image.
      settings: of the method.
      regions: bool [N, H, W], the pixels that count; all where left out.
      batch_size: images at a time.

    Returns:
      The result for N images.
    """
    model = tuned_copy(model)
    results = []
    for start in range(0, len(images), batch_size):
        chunk = slice(start, start + batch_size)
        inputs = channels_first(images[chunk]).contiguous(memory_format=torch.channels_last)
        wanted = _integers(class_indices[chunk])
        results.append(_explain(model, inputs, wanted, _tensor(regions, images)[chunk], settings))
    return _concatenate(results)


def stable_iterations(
    model: TorchUNet,
    images: np.ndarray,
    class_indices: np.ndarray,
    settings: MisurePaper,
    regions: np.ndarray | None = None,
) -> np.ndarray:
    """How many iterations of each image rounding leaves alone.

    Where the gradient of a pixel nearly vanishes, Adam makes steps of the learning rate out of its
    sign, so rounding errors grow with the iterations: on some images one network in float32 and in
    float64 differ by percents of the loss. Nothing that computes in float32 can be held to less.

    Args:
      model: in evaluation mode.
      images: float32 [N, H, W, C].
      class_indices: int [N].
      settings: of the method.
      regions: bool [N, H, W], the pixels that count; all where left out.

    Returns:
      int32 [N], the leading iterations at which stage 2 in float32 and in float64, both from the
      regions of float32, agree.
    """
    single = explain_tuned(model, images, class_indices, settings, regions)
    inputs, wanted = channels_first(images), _integers(class_indices)
    stage_1 = [
        torch.from_numpy(array)
        for array in (single.segment, single.sufficient, single.dilations, single.dice_trace)
    ]
    network = tuned_copy(model).double()
    double = _minimal_masks(
        network, inputs.double(), wanted, _tensor(regions, images), tuple(stage_1), settings
    )
    return steady(single.loss, double.loss)


def _explain(
    model: TorchUNet,
    images: torch.Tensor,
    wanted: torch.Tensor,
    regions: torch.Tensor,
    settings: MisurePaper,
) -> MisureResult:
    """Both stages of images [N, C, H, W] together."""
    stage_1 = _sufficient_regions(model, images, wanted, regions, settings)
    return _minimal_masks(model, images, wanted, regions, stage_1, settings)


def _integers(class_indices: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(class_indices, np.int64))


def _tensor(regions: np.ndarray | None, images: np.ndarray) -> torch.Tensor:
    """bool [N, H, W]."""
    return torch.from_numpy(np.ones(images.shape[:3], bool) if regions is None else regions)


def _concatenate(results: list[MisureResult]) -> MisureResult:
    fields = MisureResult.__dataclass_fields__
    return MisureResult(
        **{name: np.concatenate([getattr(result, name) for result in results]) for name in fields}
    )


def _sufficient_regions(
    model: TorchUNet,
    images: torch.Tensor,
    wanted: torch.Tensor,
    regions: torch.Tensor,
    settings: MisurePaper,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Stage 1: M_0 = Y; while D([argmax f(x M_k) = c], Y) < tau: M_{k+1} = dilate(M_k).

    Images [N, C, H, W] that are finished leave the batch. Returns Y and M_SR, bool [N, H, W],
    the number of dilations [N] and the Dice trace [N, max_dilations + 1].
    """
    kernel = torch.from_numpy(ellipse(settings.element_size)).float()[None, None]
    with torch.no_grad():
        segment = _segment(model, images, wanted) & regions
    region = segment.clone()
    dilations = torch.zeros(len(images), dtype=torch.int32)
    trace = torch.full((len(images), settings.max_dilations + 1), torch.nan)
    active = torch.arange(len(images))
    for count in range(settings.max_dilations + 1):
        with torch.no_grad():
            kept = images[active] * region[active, None]
            found = _segment(model, kept, wanted[active]) & regions[active]
            dice = _hard_dice(found, segment[active])
        trace[active, count] = dice
        dilations[active] = count
        grows = (dice < settings.tau) & segment[active].any((1, 2))
        active = active[grows]
        if len(active) == 0 or count == settings.max_dilations:
            break
        grown = functional.conv2d(region[active, None].float(), kernel, padding="same")
        region[active] = grown[:, 0] > 0.5
    return segment, region, dilations, trace


def _minimal_masks(
    model: TorchUNet,
    images: torch.Tensor,
    wanted: torch.Tensor,
    regions: torch.Tensor,
    stage_1: tuple[torch.Tensor, ...],
    settings: MisurePaper,
) -> MisureResult:
    """Stage 2 for images [N, C, H, W], and the result."""
    segment, sufficient, dilations, trace = stage_1
    images = images * sufficient[:, None]
    size, stride = segment.shape[1:], settings.mask_stride
    mask = torch.where(segment, 1.0, torch.where(sufficient, 0.5, 0.0)).to(images.dtype)
    if stride > 1:
        grid = [-(-side // stride) for side in size]
        mask = functional.interpolate(mask[:, None], grid, mode="bilinear", antialias=True)[:, 0]

    def pixels() -> torch.Tensor:
        fine = mask
        if stride > 1:
            fine = functional.interpolate(mask[:, None], size, mode="bilinear")[:, 0]
        return fine * sufficient

    mask.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [mask], lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    losses = []
    for _ in range(settings.num_iterations):
        optimizer.zero_grad()
        fine = pixels()
        logits = class_logits(model(images * fine[:, None]))
        loss = _loss(fine, logits, segment, wanted, regions, settings)
        loss.sum().backward()
        optimizer.step()
        with torch.no_grad():
            mask.clamp_(0.0, 1.0)
        losses.append(loss.detach())
    with torch.no_grad():
        final = pixels()
        final = torch.where(final >= settings.cut, final, 0.0)
        minimal = _segment(model, images * final[:, None], wanted) & regions
        dice = _hard_dice(minimal, segment)
    found = segment.any(2).any(1)
    return MisureResult(
        segment=segment.numpy(),
        sufficient=sufficient.numpy(),
        dilations=dilations.numpy(),
        dice_trace=trace.numpy(),
        mask=final.numpy(),
        loss=torch.where(found[:, None], torch.stack(losses, 1), torch.nan).numpy(),
        dice_minimal=torch.where(found, dice, torch.nan).numpy(),
    )


def _loss(
    mask: torch.Tensor,
    logits: torch.Tensor,
    segment: torch.Tensor,
    wanted: torch.Tensor,
    regions: torch.Tensor,
    settings: MisurePaper,
) -> torch.Tensor:
    """The loss [N] of masks [N, H, W] whose inputs give logits [N, K, H, W]."""
    probability = torch.softmax(logits, 1)[torch.arange(len(wanted)), wanted]
    miss_c = 1 - _soft_dice(probability * regions, segment)
    miss_0 = 1 - _soft_dice((1 - probability) * regions, ~segment & regions)
    loss = settings.foreground_weight * miss_c
    loss = loss + settings.background_weight * (miss_0 + miss_c) / 2
    loss = loss + settings.l1_weight * mask.abs().mean((1, 2))
    if settings.tv_weight:
        steps = (mask.diff(dim=1), mask.diff(dim=2))
        variation = sum(step.abs().pow(settings.tv_power).mean((1, 2)) for step in steps)
        loss = loss + settings.tv_weight * variation
    return loss


def _segment(model: TorchUNet, images: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Where the class is predicted, bool [N, H, W]."""
    return class_logits(model(images)).argmax(1) == wanted[:, None, None]


def _hard_dice(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    both = (a & b).sum((1, 2)).float()
    return 2 * both / (a.sum((1, 2)) + b.sum((1, 2))).float().clamp(min=1)


def _soft_dice(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    both = (probability * target).sum((1, 2))
    total = probability.sum((1, 2)) + target.sum((1, 2))
    return 2 * both / total.clamp(min=1e-7)
