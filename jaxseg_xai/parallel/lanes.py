"""Continuous batching: a lane whose job is done takes the next one, and the others go on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.incremental.trace import Program, trace
from jaxseg_xai.types import Predict

#: Lanes of a CPU device: their activations stay in the core's cache. Without a backward pass one
#: image keeps a core as busy as several, and no lane is idle when the jobs come to their end.
_CPU_LANES, _CPU_LANES_FORWARD = 2, 1
#: Share of an accelerator's memory for the lanes, and the most lanes that help.
_MEMORY_SHARE, _MOST = 0.5, 256
#: Of what a forward pass computes, a backward pass keeps about as much, and the gradients come on
#: top.
_BACKWARD = 3


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
    """Run every wanted job to its own end, so many at a time.

    All on the device, in one loop that nothing outside has to wait for; to be called on every
    device of a `shard_map` with its own jobs. What a job gives does not depend on its neighbours:
    the lanes share the program, not their values.

    Args:
      start: number of a job, int32 [] -> the state it begins with.
      step: state -> state.
      is_done: state -> bool [], asked after every step; a job takes at least one.
      result_of: state of a job that is done -> pytree of arrays.
      wanted: bool [J], the jobs there are.
      num_lanes: jobs at a time.

    Returns:
      (results with a leading axis [J], zeros where there was no job; how busy the lanes were).
    """
    capacity = wanted.size
    num_lanes = min(num_lanes, capacity)
    each = _alone if num_lanes == 1 else jax.vmap
    order = jnp.argsort(~wanted, stable=True).astype(jnp.int32)
    count = jnp.sum(wanted, dtype=jnp.int32)
    lanes = jnp.arange(num_lanes, dtype=jnp.int32)
    states = each(start)(order[lanes])
    # The number of a job in `order`; from `count` on, a lane is idle and its state means nothing.
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
        states = jax.tree.map(
            lambda n, old: jnp.where(done.reshape(-1, *[1] * (n.ndim - 1)), n, old), new, states
        )
        jobs = jnp.where(done, jnp.where(rank < count, rank, capacity), jobs)
        return states, jobs, following + jnp.sum(done, dtype=jnp.int32), results

    def body(carry: tuple) -> tuple:
        states, jobs, following, results, use = carry
        states = each(step)(states)
        busy = jobs < count
        done = each(is_done)(states) & busy
        # Starting and ending a job moves whole images: only when there is one.
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


def _alone(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`jax.vmap` over one: slices stay slices, where it would make gathers of them."""

    def over_one(argument: Any) -> Any:
        found = function(jax.tree.map(lambda leaf: leaf[0], argument))
        return jax.tree.map(lambda leaf: leaf[None], found)

    return over_one


def forward_lanes(device: Any, num_lanes: int) -> int:
    """How many of its lanes a device should use where steps are forward passes alone."""
    return min(num_lanes, _CPU_LANES_FORWARD) if device.platform == "cpu" else num_lanes


def lanes_that_fit(device: Any, bytes_per_lane: Callable[[], int]) -> int:
    """How many lanes a device has room for.

    Args:
      device: a JAX device.
      bytes_per_lane: says what a lane needs while it steps; asked where it matters.
    """
    if device.platform == "cpu":
        return _CPU_LANES
    limit = (device.memory_stats() or {}).get("bytes_limit", 8 << 30)
    return int(min(_MOST, max(1, _MEMORY_SHARE * limit // bytes_per_lane())))


def forward_bytes(program: Program) -> int:
    """Of everything that a forward pass of a traced model computes."""
    values = [program.shapes[number] for number in program.of_image]
    return sum(value.size * value.dtype.itemsize for value in values)


def images_that_fit(device: Any, predict: Predict, variables: Any, shape: tuple[int, ...]) -> int:
    """How many images [H, W, C] a device should look at at a time, by forward passes alone."""
    return interventions_that_fit(device, lambda: _of_one(predict, variables, shape))


def interventions_that_fit(device: Any, traced: Callable[[], Program]) -> int:
    """The same of a model traced for one image, which is asked for where it matters."""
    return forward_lanes(device, lanes_that_fit(device, lambda: forward_bytes(traced())))


def gradients_that_fit(
    device: Any, predict: Predict, variables: Any, shape: tuple[int, ...]
) -> int:
    """How many images [H, W, C] a device should look at at a time, by backward passes too."""
    return lanes_that_fit(
        device, lambda: _BACKWARD * forward_bytes(_of_one(predict, variables, shape))
    )


def _of_one(predict: Predict, variables: Any, shape: tuple[int, ...]) -> Program:
    return trace(predict, variables, (1, *shape), jnp.float32)
