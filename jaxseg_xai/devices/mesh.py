"""One mesh over the local devices, and batches split over it."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

#: The one mesh axis: independent examples (lanes, images, interventions).
AXIS = "example"


def cpu_cores() -> int:
    """How many cores of the host this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(usable(0)) if usable else os.cpu_count() or 1


def use_cpu_cores(count: int | None = None) -> None:
    """Make one JAX device per CPU core; call before the first JAX computation.

    A CPU device runs small convolutions on one core only. With one device per core, a batch that is
    split over the devices uses all cores. GPUs and TPUs are not affected.
    """
    jax.config.update("jax_num_cpu_devices", cpu_cores() if count is None else count)


def device_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """One-dimensional mesh over `devices` (default: all of this process)."""
    devices = jax.local_devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def shard_examples(function: Callable, mesh: Mesh) -> Callable:
    """Run `function(shared, batch)` with the batch split over the devices.

    Every device works on its own part without waiting for the others: a loop inside `function` runs
    for as many steps as that part needs.

    Args:
      function: (shared pytree, batch pytree of leading axis B/n) -> pytree of that leading axis.
      mesh: from `device_mesh`.

    Returns:
      A function of the same arguments with leading axis B, a multiple of the mesh's size.
    """
    # No check_vma: the custom gradient of our convolution combines weights, which are the same on
    # all devices, with examples, which are not; each device wants its own examples' gradients only.
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(AXIS),
        check_vma=False,
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copy a pytree of arrays to every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def pad_batch(batch: Any, multiple: int) -> Any:
    """Repeat the last example until the leading axis of every leaf is a multiple of `multiple`."""

    def pad(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        return np.concatenate([leaf, np.repeat(leaf[-1:], -len(leaf) % multiple, axis=0)])

    return jax.tree.map(pad, batch)


def deal_batch(batch: Any, size: int, mesh: Mesh) -> tuple[Any, np.ndarray]:
    """Fill up a batch with copies of its last example, and give every device an equal share.

    In `shard_examples` a device gets a contiguous part of the batch. In their given order the last
    devices could get nothing but copies; so the first examples go to one device each, then the next
    ones, and so on.

    Args:
      batch: pytree of arrays with leading axis N, at most `size`.
      size: of the full batch, a multiple of the mesh's size.
      mesh: the devices.

    Returns:
      (the batch, leading axis `size`; the number of the example at each place, int [size], N or
      more for a copy).
    """
    which = np.arange(size).reshape(-1, mesh.size).T.ravel()

    def deal(leaf: Any) -> np.ndarray:
        assert len(leaf) <= size, "more examples than places"
        return np.asarray(leaf)[np.minimum(which, len(leaf) - 1)]

    return jax.tree.map(deal, batch), which
