"""RISE and KernelSHAP of a segment in PyTorch, with the masks that ours draws.

The outcome is the hard or the soft Dice, in points; hidden pixels are 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.arrays import Arrays, Inputs, stack
from benchmarks.peers.pdcr import outcomes_of, soft_outcomes_of, truth_of
from benchmarks.peers.running import ways
from jaxseg_xai.explainers.perturbation.kernel_shap import KernelShap
from jaxseg_xai.explainers.perturbation.rise import Rise


@torch.inference_mode()
def _explain(model: Any, x, inputs: Inputs, settings: Any, size: int) -> Arrays:
    """One image, so many masks of it at a time."""
    outcomes, base = _outcomes(model, x, inputs, settings)
    found = _METHODS[type(settings)](outcomes, base, inputs, settings, x, size)
    return stack([{"attribution": found.cpu().numpy(), "segment": inputs.targets.segment[0]}])


def _outcomes(
    model: Any, x: torch.Tensor, inputs: Inputs, settings: Any
) -> tuple[Callable[[torch.Tensor], torch.Tensor], float]:
    """What gives the outcomes of masks [m, *S], and that of the image."""
    known = {"dice": outcomes_of, "soft_dice": soft_outcomes_of}
    if settings.outcome not in known or settings.baseline != "zero":
        raise ValueError("the peers know the outcomes dice and soft_dice, and the baseline zero")
    outcomes_in = known[settings.outcome]
    truth = truth_of(inputs, x.device)
    last = torch.channels_last_3d if x.ndim == 5 else torch.channels_last
    layout = torch.contiguous_format if x.is_contiguous() else last

    def outcomes(masks: torch.Tensor) -> torch.Tensor:
        masked = (x * masks[:, None]).contiguous(memory_format=layout)
        return outcomes_in(model(masked), truth)

    return outcomes, float(outcomes_in(model(x), truth))


def _rise(outcomes, base: float, inputs: Inputs, settings: Rise, x, size: int) -> torch.Tensor:
    """As the authors' code: cells scaled up by bilinear interpolation, and cut out at a shift."""
    cells, shifts = (torch.from_numpy(np.asarray(part[0])).to(x.device) for part in inputs.masks)
    height, width = x.shape[2:]
    whole = [-(-side // settings.grid) * (settings.grid + 1) for side in (height, width)]
    weighted, shown = (torch.zeros(height, width, device=x.device) for _ in range(2))
    for some, places in zip(cells.split(size), shifts.split(size), strict=True):
        large = functional.interpolate(
            some[:, None].float(), whole, mode="bilinear", align_corners=False
        )[:, 0]
        masks = torch.stack(
            [
                mask[row : row + height, column : column + width]
                for mask, (row, column) in zip(large, places.tolist(), strict=True)
            ]
        )
        weighted += torch.tensordot(outcomes(masks), masks, dims=1)
        shown += masks.sum(0)
    return torch.where(shown > 0, weighted / shown, 0.0)


def _kernel_shap(
    outcomes, base: float, inputs: Inputs, settings: KernelShap, x, size: int
) -> torch.Tensor:
    """Pairs of coalitions, and least squares in float64."""
    first, matters, players = (
        torch.from_numpy(np.asarray(m[0])).to(x.device) for m in inputs.masks
    )
    found = _of_coalitions(outcomes, inputs, x, size).double()
    hidden, pairs = found[0], found[1:].reshape(-1, 2)
    y = pairs[:, 0] - pairs[:, 1]
    z = (first.double() - (matters & ~first).double())[:, matters]
    inverse = torch.linalg.inv(z.T @ z)
    free, rows = inverse @ (z.T @ y), inverse.sum(1)
    values = torch.zeros(len(matters), dtype=torch.float64, device=x.device)
    values[matters] = free + rows * (base - hidden - free.sum()) / rows.sum()
    return values[players.long()].float()


def _of_coalitions(outcomes, inputs: Inputs, x: torch.Tensor, size: int) -> torch.Tensor:
    """Of nobody, and then of every coalition and the players that it leaves out."""
    first, matters, players = (
        torch.from_numpy(np.asarray(m[0])).to(x.device) for m in inputs.masks
    )
    shown = torch.stack([first, matters & ~first], 1).flatten(0, 1)
    shown = torch.cat([torch.zeros_like(shown[:1]), shown]).to(x.dtype)
    return torch.cat([outcomes(some[:, players.long()]) for some in shown.split(size)])


_METHODS = {Rise: _rise, KernelShap: _kernel_shap}

#: One mask at a time, as the published codes loop over them; many of one image together.
original, tuned = ways(_explain, tuned={"num_images": 1})
