"""Continuous batching: a lane whose job has ended starts the next one; the others keep running."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class LaneUse(NamedTuple):
    """How busy the lanes were; int32 [] each.

    Attributes:
      useful: steps of lanes that had a job.
      total: steps of all lanes.
    """

    useful: jax.Array
    total: jax.Array


def run_lanes(
    start: Callable[[jax.Array], Any],
    step: Callable[[Any], Any],
    is_done: Callable[[Any], jax.Array],
    result_of: Callable[[Any], Any],
    wanted: jax.Array,
    *,
    num_lanes: int,
) -> tuple[Any, LaneUse]:
    """Run every wanted job until it is done, `num_lanes` of them at a time.

    Everything happens on the device, in one loop. Inside `shard_map` every device calls this with
    its own jobs, and none waits for another. The result of a job does not depend on the jobs in the
    other lanes: they share the program, not their values.

    Args:
      start: number of a job, int32 [] -> its first state.
      step: state -> next state.
      is_done: state -> bool [], asked after every step; a job takes at least one step.
      result_of: state of a job that is done -> pytree of arrays.
      wanted: bool [J], which jobs are to be run.
      num_lanes: jobs at a time.

    Returns:
      (results with a leading axis [J], zeros where a job was not wanted; how busy the lanes were).
    """
    capacity = wanted.size
    num_lanes = min(num_lanes, capacity)
    each = _alone if num_lanes == 1 else jax.vmap
    order = jnp.argsort(~wanted, stable=True).astype(jnp.int32)
    count = jnp.sum(wanted, dtype=jnp.int32)
    lanes = jnp.arange(num_lanes, dtype=jnp.int32)
    states = each(start)(order[lanes])
    # Where in `order` the job of a lane stands. From `count` on the lane is idle: its state is that
    # of some other job and is ignored.
    jobs = jnp.where(lanes < count, lanes, capacity)
    shapes = jax.eval_shape(each(result_of), states)
    results = jax.tree.map(lambda s: jnp.zeros((capacity, *s.shape[1:]), s.dtype), shapes)
    zero = jnp.int32(0)

    def refill(carry: tuple) -> tuple:
        states, jobs, following, results, done = carry
        where = jnp.where(done, order.at[jobs].get(mode="clip"), capacity)
        results = jax.tree.map(
            lambda all_, new: all_.at[where].set(new, mode="drop"),
            results,
            each(result_of)(states),
        )
        rank = following + jnp.cumsum(done, dtype=jnp.int32) - 1
        new = each(start)(order.at[rank].get(mode="clip"))
        states = jax.tree.map(functools.partial(select_jobs, done), new, states)
        jobs = jnp.where(done, jnp.where(rank < count, rank, capacity), jobs)
        return states, jobs, following + jnp.sum(done, dtype=jnp.int32), results

    def body(carry: tuple) -> tuple:
        states, jobs, following, results, use = carry
        states = each(step)(states)
        busy = jobs < count
        done = each(is_done)(states) & busy
        # Starting and ending a job copies whole images, so it is done only when one has ended.
        states, jobs, following, results = lax.cond(
            jnp.any(done),
            refill,
            lambda carry: carry[:4],
            (states, jobs, following, results, done),
        )
        useful = use.useful + jnp.sum(busy, dtype=jnp.int32)
        return states, jobs, following, results, LaneUse(useful, use.total + lanes.size)

    carry = (states, jobs, jnp.int32(lanes.size), results, LaneUse(zero, zero))
    carry = lax.while_loop(lambda carry: jnp.any(carry[1] < count), body, carry)
    return carry[3], carry[4]


def select_jobs(chosen: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """`new` where a job is chosen, else `old`: chosen bool [J], the others [J, ...]."""
    return jnp.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _alone(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`jax.vmap` over one lane, but slices stay slices: `jax.vmap` would make gathers of them."""

    def over_one(argument: Any) -> Any:
        found = function(jax.tree.map(lambda leaf: leaf[0], argument))
        return jax.tree.map(lambda leaf: leaf[None], found)

    return over_one
