"""Models that were traced for one image, kept: a second call finds the same program again."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxseg_xai.core.caches import remembered
from jaxseg_xai.core.types import Predict
from jaxseg_xai.program.sites import Site, find_sites
from jaxseg_xai.program.trace import Program, trace

#: Models and sizes of images that are kept.
_KEPT = 16


def shapes_of(tree: Any) -> Any:
    """The shapes of a pytree's leaves, of arrays, tracers or numbers alike."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree
    )


def traced_for_one(
    predict: Predict, variables: Any, shape: tuple[int, ...], dtype: Any = jnp.float32
) -> Program:
    """`trace` for one image [*S, C]; what is compiled for the program is found again with it.

    Args:
      predict: the model, hashable by value.
      variables: its weights, or their shapes.
      shape: of the image.
      dtype: of the image.

    Raises:
      ModelError: see `trace`.
    """
    leaves, structure = jax.tree.flatten(shapes_of(variables))
    return _traced(predict, structure, tuple(leaves), tuple(shape), jnp.dtype(dtype))


@remembered(_KEPT)
def sites_of(program: Program) -> tuple[Site, ...]:
    """`find_sites`, once a program."""
    return find_sites(program)


@remembered(_KEPT)
def _traced(predict: Predict, structure: Any, leaves: tuple, shape: tuple, dtype: Any) -> Program:
    return trace(predict, jax.tree.unflatten(structure, leaves), (1, *shape), dtype)
