"""Elimination: which parts of a list cannot be spared, found by halving what is tried at once."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Eliminated(NamedTuple):
    """What is left of each of L lists of n parts.

    Attributes:
      spared: bool [L, n], the parts that were spared.
      values: float32 [L], of the last try that was accepted; those of the start where none was.
      sound: bool [], whether all values were finite.
    """

    spared: jax.Array
    values: jax.Array
    sound: jax.Array


class _State(NamedTuple):
    found: Eliminated
    place: jax.Array
    step: jax.Array


def eliminate(
    values_of: Callable[[jax.Array, jax.Array], jax.Array],
    accepts: Callable[[jax.Array], jax.Array],
    orders: jax.Array,
    count: jax.Array,
    start: jax.Array,
) -> Eliminated:
    """Spare parts in the order in which they are listed, as long as it is accepted.

    One part after the other would take a try for each. Instead half of the list is tried at once;
    twice as many as the last time after an accepted try, half as many after another, and a part
    that is refused alone cannot be spared. Where what is refused stays refused when more is spared,
    the same parts are left as one after the other would leave.

    Args:
      values_of: (spared bool [L, n], which lists are asked for, bool [L]) -> values float32 [L].
      accepts: values float32 [L] -> bool [L].
      orders: int32 [L, n], the parts in the order in which they are tried.
      count: int32 [L], so many of them are; those behind are neither tried nor spared.
      start: float32 [L], values where nothing is spared.
    """
    ranks = jnp.argsort(orders, axis=1)

    def going(state: _State) -> jax.Array:
        return state.place < count

    def attempt(state: _State) -> _State:
        (spared, values, sound), place, step = state
        asked = going(state)
        tried = (ranks >= place[:, None]) & (ranks < (place + step)[:, None])
        tried = spared | (tried & asked[:, None])
        found = values_of(tried, asked)
        accepted = accepts(found) & asked
        spared = jnp.where(accepted[:, None], tried, spared)
        sound &= jnp.all(jnp.isfinite(found) | ~asked)
        place = place + jnp.where(accepted, step, (step == 1).astype(jnp.int32))
        step = jnp.where(accepted, 2 * step, step // 2)
        found = Eliminated(spared, jnp.where(accepted, found, values), sound)
        return _State(found, place, jnp.clip(step, 1, _half(count - place)))

    nothing = Eliminated(jnp.zeros(orders.shape, bool), start, jnp.bool(True))
    begin = _State(nothing, jnp.zeros_like(count), _half(count))
    return lax.while_loop(lambda state: jnp.any(going(state)), attempt, begin).found


def most_tries(count: int) -> int:
    """Tries for a list of so many parts at most.

    >>> most_tries(64)
    134
    """
    return 2 * count + math.ceil(math.log2(max(count, 1)))


def _half(count: jax.Array) -> jax.Array:
    return jnp.maximum((count + 1) // 2, 1)
