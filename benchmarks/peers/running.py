"""How the peers run: on the device and in the dtype of ours, image by image or many together.

A peer is `explain(model, x, inputs, settings, size, **options)`: it is given some of the inputs,
their images as a tensor x [N, C, H, W] on the model's device, and how many inputs a call of the
network shall have.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import torch

from benchmarks.arrays import Arrays, Inputs, join
from benchmarks.peers.unet import TorchUNet, channels_first, channels_last
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.segmenter import Dtype

#: Inputs per call of the tuned peers on CPUs. For the ATE of 2, 4, 8, .. 128 the fastest, ms an
#: input at 128x128 on two cores: 5.8, 5.5, 5.5, 6.2, 7.3, 8.8, 14.2. For MiSuRe fewer and more were
#: slower, too.
_CPU_INPUTS = 8
#: Pixels of all inputs of one call on a GPU, 64 images of 256x256. On an H100 larger batches are
#: faster by 2 %, a quarter of it is slower by 8 %.
_GPU_PIXELS = 2**22
#: More inputs of a call, or blocks, than there are.
ALL = 2**30

Explain = Callable[..., Arrays]


def ways(
    explain: Explain, original: Mapping[str, Any] | None = None, tuned: Mapping | None = None
) -> tuple[Explain, Explain]:
    """The published way and the tuned one through the same function, each with these options."""
    return (
        functools.partial(one_by_one, explain, **(original or {})),
        functools.partial(together, explain, **(tuned or {})),
    )


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
    size, found = size or inputs_per_call(folded.device, inputs.images.shape[1:-1]), []
    step = num_images or size
    with tuned_convolutions():
        for start in range(0, len(inputs.images), step):
            some = inputs.some(slice(start, start + step))
            x = channels_last(some.images, folded.device)
            found.append(explain(folded, x, some, settings, size, **options))
    return join(found)


def torch_device() -> torch.device:
    """Of the kind that JAX computes on, the first; `ConfigError` where PyTorch cannot use it."""
    platform = jax.default_backend()
    if platform == "cpu":
        return torch.device("cpu")
    otherwise = "use --peer none, or set JAX_PLATFORMS=cpu to compare on the CPU"
    if platform != "gpu":
        raise ConfigError(
            f"the PyTorch peers run on CPUs and GPUs, not on a {platform}: {otherwise}"
        )
    if not torch.cuda.is_available():
        raise ConfigError(
            f"PyTorch {torch.__version__} sees no GPU, but JAX does: install a CUDA "
            f"build of PyTorch, {otherwise}"
        )
    return torch.device("cuda")


def place(model: TorchUNet, dtype: Dtype) -> TorchUNet:
    """The model on `torch_device()`, which is told to compute in `dtype`, for all of PyTorch.

    By itself PyTorch would let cuDNN round the factors of float32 convolutions to 10 bits.
    """
    precision = "tf32" if dtype == "tensorfloat32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = precision
    torch.backends.cudnn.conv.fp32_precision = precision  # pyright: ignore[reportAttributeAccessIssue]
    return model.to(torch_device(), torch.bfloat16 if dtype == "bfloat16" else torch.float32)


def inputs_per_call(device: torch.device, shape: tuple[int, ...]) -> int:
    """How many inputs [C, *S] of a shape S a tuned peer evaluates at a time."""
    if device.type == "cpu":
        return _CPU_INPUTS
    return max(1, _GPU_PIXELS // math.prod(shape))


@contextlib.contextmanager
def tuned_convolutions() -> Iterator[None]:
    """Within it (or a function decorated with it) cuDNN takes the algorithm it finds the fastest.

    It tries them at the first call of every shape.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def finished(result: torch.Tensor) -> torch.Tensor:
    """The tensor once its device has computed it: GPUs run behind Python."""
    if result.is_cuda:
        torch.cuda.synchronize(result.device)
    return result


def classes_of(inputs: Inputs, device: torch.device) -> torch.Tensor:
    """Of each image, int64 [N]."""
    return torch.from_numpy(np.asarray(inputs.targets.class_index, np.int64)).to(device)
