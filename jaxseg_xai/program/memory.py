"""How many images or interventions a device has room for."""

from collections.abc import Callable
from typing import Any

from jaxseg_xai.core.types import Predict
from jaxseg_xai.program.cache import traced_for_one
from jaxseg_xai.program.trace import Program

#: Images at a time on a CPU device, a core: their activations then stay in its cache. Without a
#: backward pass one image keeps a core as busy as several do, and no lane waits for the last job.
_CPU_LANES, _CPU_LANES_FORWARD = 2, 1
#: Share of an accelerator's memory that lanes may fill, and the most lanes that help.
_MEMORY_SHARE, _MOST = 0.5, 256
#: A backward pass needs about three times as much as a forward pass: what the latter computed is
#: kept, and the gradients are as large again.
_BACKWARD = 3


def forward_lanes(device: Any, num_lanes: int) -> int:
    """How many of its lanes a device should use where steps are forward passes alone."""
    return min(num_lanes, _CPU_LANES_FORWARD) if device.platform == "cpu" else num_lanes


def lanes_that_fit(device: Any, bytes_per_lane: Callable[[], int]) -> int:
    """How many lanes a device has room for.

    Args:
      device: a JAX device.
      bytes_per_lane: says what a lane needs while it steps; called only where it matters.
    """
    if device.platform == "cpu":
        return _CPU_LANES
    limit = (device.memory_stats() or {}).get("bytes_limit", 8 << 30)
    return int(min(_MOST, max(1, _MEMORY_SHARE * limit // bytes_per_lane())))


def forward_bytes(program: Program) -> int:
    """Size of everything that a forward pass of a traced model computes of the image."""
    values = [program.shapes[number] for number in program.of_image]
    return sum(value.size * value.dtype.itemsize for value in values)


def images_that_fit(device: Any, predict: Predict, variables: Any, shape: tuple[int, ...]) -> int:
    """How many images [*S, C] a device should look at at a time, by forward passes alone."""
    return interventions_that_fit(device, lambda: traced_for_one(predict, variables, shape))


def interventions_that_fit(device: Any, traced: Callable[[], Program]) -> int:
    """The same of a model traced for one image; `traced` is called only where it matters."""
    return forward_lanes(device, lanes_that_fit(device, lambda: forward_bytes(traced())))


def gradients_that_fit(
    device: Any, predict: Predict, variables: Any, shape: tuple[int, ...]
) -> int:
    """How many images [*S, C] a device should look at at a time, by backward passes too."""
    return lanes_that_fit(
        device, lambda: _BACKWARD * forward_bytes(traced_for_one(predict, variables, shape))
    )
