"""Numbered jobs, evaluated in batches on all devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.devices.mesh import AXIS


def equal_batches(count: int, at_most: int) -> int:
    """Size of equal batches of at most `at_most` jobs each, as few batches as possible.

    >>> equal_batches(50, 12)  # 5 batches
    10
    """
    return -(-count // -(-count // at_most))


def map_jobs(
    function: Callable[[jax.Array], jax.Array],
    count: jax.Array,
    *,
    capacity: int,
    batch_size: int,
    num_devices: int,
) -> jax.Array:
    """Evaluate `function` for the jobs 0, 1, ..., count - 1, in batches on all devices in turn.

    Every device of a `shard_map` over `AXIS` calls this; of one device, anybody may. `count` is
    known on the device only: no more jobs are computed than there are, without asking the host. The
    devices wait for each other once, at the end.

    Args:
      function: job numbers int32 [batch_size] -> float32 [batch_size, ...]. A batch that is not
        full repeats the last job; those results are dropped.
      count: int32 [], the number of jobs, at most `capacity`.
      capacity: static bound of `count`.
      batch_size: jobs per call.
      num_devices: size of the mesh.

    Returns:
      float32 [capacity, ...], 0 from `count` on; the same on every device.
    """
    device = lax.axis_index(AXIS) if num_devices > 1 else 0

    def start_of(turn: jax.Array) -> jax.Array:
        return (turn * num_devices + device) * batch_size

    def body(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        turn, found = carry
        jobs = start_of(turn) + jnp.arange(batch_size)
        values = function(jnp.minimum(jobs, count - 1))
        where = jnp.where(jobs < count, jobs, capacity)
        return turn + 1, found.at[where].set(values, mode="drop")

    result = jax.eval_shape(function, jax.ShapeDtypeStruct((batch_size,), jnp.int32))
    start = (jnp.int32(0), jnp.zeros((capacity, *result.shape[1:]), jnp.float32))
    _, found = lax.while_loop(lambda carry: start_of(carry[0]) < count, body, start)
    return lax.psum(found, AXIS) if num_devices > 1 else found
