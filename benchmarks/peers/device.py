"""Where the PyTorch peers run and how they compute: on the device and in the dtype of ours."""

import contextlib
from collections.abc import Iterator

import jax
import torch

from benchmarks.peers.unet import TorchUNet
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.segmenter import Dtype

#: Inputs per call of the tuned peers on CPUs. For the ATE of 2, 4, 8, .. 128 the fastest, ms an
#: input at 128x128 on two cores: 5.8, 5.5, 5.5, 6.2, 7.3, 8.8, 14.2. For MiSuRe fewer and more were
#: slower, too.
_CPU_INPUTS = 8
#: Pixels of all inputs of one call on a GPU, 64 images of 256x256. On an H100 larger batches are
#: faster by 2 %, a quarter of it is slower by 8 %.
_GPU_PIXELS = 2**22


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


def inputs_per_call(device: torch.device, height: int, width: int) -> int:
    """How many inputs [C, height, width] a tuned peer evaluates at a time."""
    if device.type == "cpu":
        return _CPU_INPUTS
    return max(1, _GPU_PIXELS // (height * width))


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
