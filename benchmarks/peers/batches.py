"""How the peers go through images: one at a time, as published, or many together.

`explain(model, x, inputs, settings, size, **options)` is given some of the inputs, their images as
a tensor x [N, C, H, W] on the model's device, and how many inputs a call of the network shall have.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.arrays import Arrays, Inputs, join
from benchmarks.peers.device import inputs_per_call, tuned_convolutions
from benchmarks.peers.unet import TorchUNet, channels_first, channels_last

Explain = Callable[..., Arrays]


def one_by_one(
    explain: Explain, model: TorchUNet, inputs: Inputs, settings: Any, size: int = 1, **options: Any
) -> Arrays:
    """One image at a time, eagerly, channels first."""
    found = []
    for i in range(len(inputs.images)):
        x = channels_first(inputs.images[[i]], model.device)
        found.append(explain(model, x, inputs.one(i), settings, size, **options))
    model.zero_grad(set_to_none=True)
    return join(found)


@tuned_convolutions()
def together(
    explain: Explain,
    folded: TorchUNet,
    inputs: Inputs,
    settings: Any,
    size: int | None = None,
    num_images: int | None = None,
    **options: Any,
) -> Arrays:
    """Many images at a time, channels last; by default as many as one call of the network has."""
    size, found = size or inputs_per_call(folded.device, *inputs.images.shape[1:3]), []
    step = num_images or size
    for start in range(0, len(inputs.images), step):
        some = inputs.some(slice(start, start + step))
        x = channels_last(some.images, folded.device)
        found.append(explain(folded, x, some, settings, size, **options))
    return join(found)


def classes_of(inputs: Inputs, device: torch.device) -> torch.Tensor:
    """Of each image, int64 [N]."""
    return torch.from_numpy(np.asarray(inputs.targets.class_index, np.int64)).to(device)
