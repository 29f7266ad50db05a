"""Control flow on the device."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def only_if(wanted: jax.Array, compute: Callable[[], Any]) -> Any:
    """What `compute` returns where it is `wanted`; else zeros, at no cost.

    Args:
      wanted: bool []; the same on all devices that share the work.
      compute: makes a pytree of arrays; not under `vmap`, which would run it all the same.
    """
    shapes = jax.eval_shape(compute)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.cond(wanted, compute, lambda: nothing)
