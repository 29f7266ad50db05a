"""Spreading work over the local devices: one mesh axis, one idiom."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

#: The one mesh axis: independent examples (lanes, images, interventions).
AXIS = "example"


def use_cpu_cores(count: int | None = None) -> None:
    """Make one JAX device per CPU core; call before the first JAX computation.

    A CPU device runs small convolutions on one core only, so that a batch sharded over one device
    per core uses them all. GPUs and TPUs are not affected.
    """
    if count is None:
        usable = getattr(os, "sched_getaffinity", None)  # Linux only
        count = len(usable(0)) if usable else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", count)


def device_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """One-dimensional mesh over `devices` (default: all of this process)."""
    devices = jax.local_devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def shard_examples(function: Callable, mesh: Mesh) -> Callable:
    """Run `function(shared, batch)` with the batch split over the devices.

    Every device works through its own part without waiting for the others: the loops inside
    `function` run as long as that part needs.

    Args:
      function: (shared pytree, batch pytree of leading axis B/n) -> pytree of that leading axis.
      mesh: from `device_mesh`.

    Returns:
      A function of the same arguments with leading axis B, a multiple of the mesh's size.
    """
    # check_vma: weights are the same everywhere and examples are not; the custom gradient of our
    # convolution mixes both, and each device wants only its own examples' gradients.
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(AXIS),
        check_vma=False,
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put a pytree of arrays on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def pad_batch(batch: Any, multiple: int) -> Any:
    """Repeat the last example until the leading axis of every leaf is a multiple of `multiple`."""

    def pad(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        return np.concatenate([leaf, np.repeat(leaf[-1:], -len(leaf) % multiple, axis=0)])

    return jax.tree.map(pad, batch)


def deal_batch(batch: Any, size: int, mesh: Mesh) -> tuple[Any, np.ndarray]:
    """Deal examples out to the devices in turn, and fill up the batch with copies of the last.

    In `shard_examples` a device has a contiguous part of the batch: without dealing, the filling of
    a batch that is not full would be all that the last devices get.

    Args:
      batch: pytree of arrays with leading axis N, at most `size`.
      size: of the full batch, a multiple of the mesh's size.
      mesh: the devices.

    Returns:
      (the batch, leading axis `size`; which example is where, int [size], N or more for filling).
    """
    which = np.arange(size).reshape(-1, mesh.size).T.ravel()

    def deal(leaf: Any) -> np.ndarray:
        assert len(leaf) <= size, "more examples than places"
        return np.asarray(leaf)[np.minimum(which, len(leaf) - 1)]

    return jax.tree.map(deal, batch), which
