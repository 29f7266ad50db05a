"""Jobs in batches, dealt out to all devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.devices.mesh import AXIS


def equal_batches(count: int, at_most: int) -> int:
    """Size of equal batches, as few as with `at_most` in each: 50 by up to 12 are 5 times 10."""
    return -(-count // -(-count // at_most))


def map_jobs(
    function: Callable[[jax.Array], jax.Array],
    count: jax.Array,
    *,
    capacity: int,
    batch_size: int,
    num_devices: int,
) -> jax.Array:
    """`function` of jobs 0..count-1, in batches, the batches dealt out to the devices in turn.

    To be called on every device of a `shard_map` over `AXIS`. `count` is not static, so that only
    the work there is gets done, without asking the host; the devices meet once, at the end.

    Args:
      function: int32 [batch_size] job numbers -> float32 [batch_size, ...]; numbers past the end
        repeat the last job and are dropped.
      count: int32 [], the number of jobs, at most `capacity`.
      capacity: static bound of `count`.
      batch_size: jobs per call.
      num_devices: size of the mesh.

    Returns:
      float32 [capacity, ...], 0 from `count` on; the same on every device.
    """
    device = lax.axis_index(AXIS)

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
    return lax.psum(found, AXIS)
