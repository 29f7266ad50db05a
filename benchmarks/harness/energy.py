"""Energy that the GPUs have used, from NVIDIA's management library (`pip install nvidia-ml-py`)."""

import contextlib
import functools
from typing import Any

import jax


def joules() -> float | None:
    """Of the GPUs that JAX uses, since their driver was loaded; None where that cannot be read.

    The counter moves about every 0.1 s: differences over less than a second say little.
    """
    counters = _counters()
    if not counters:
        return None
    import pynvml  # pyright: ignore[reportMissingImports]

    return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(one) for one in counters) / 1000


@functools.cache
def _counters() -> tuple[Any, ...]:
    """Handles of the GPUs; none without the library, the driver or the counter."""
    if jax.default_backend() != "gpu":
        return ()
    with contextlib.suppress(ImportError):
        import pynvml  # pyright: ignore[reportMissingImports]

        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            found = [
                pynvml.nvmlDeviceGetHandleByIndex(device.local_hardware_id or 0)
                for device in jax.local_devices()
            ]
            for one in found:
                pynvml.nvmlDeviceGetTotalEnergyConsumption(one)
            return tuple(found)
    return ()
