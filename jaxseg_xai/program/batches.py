"""A traced program for one image, made from those for two and three.

`jnp.matmul` and what is built on it leave out batches of one. A program traced for one image then
has other equations than one for several, and their values do not correspond.
"""

import collections
import dataclasses
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxseg_xai.program.trace import Equation, Program

#: How products of matrices differ, for one image and for several.
_ARRANGEMENT = frozenset(
    ("dot_general", "reshape", "squeeze", "transpose", "broadcast_in_dim", "expand_dims")
)


class NotAlikeError(Exception):
    """Two programs differ in more than the number of images."""


def for_one_image(one: Program, two: Program, three: Program) -> Program | None:
    """The program for one image with the equations of those for more; None where there is none.

    Args:
      one: traced for one image.
      two: the same model for two.
      three: the same model for three.
    """
    if _computed(one) != _computed(two) or len(two.equations) != len(three.equations):
        return None
    try:
        equations = tuple(
            dataclasses.replace(
                a,
                params=_before(dict(a.params), dict(b.params)),
            )
            for a, b in zip(two.equations, three.equations, strict=True)
            if _same_values(a, b)
        )
        shapes = {
            number: jax.ShapeDtypeStruct(_before(a.shape, three.shapes[number].shape), a.dtype)
            for number, a in two.shapes.items()
        }
        program = dataclasses.replace(two, equations=equations, shapes=shapes)
        weights = [shapes[number] for number in two.variables]
        found = jax.eval_shape(program.run, weights, shapes[two.image])
    except (NotAlikeError, KeyError, TypeError, ValueError):
        return None
    same = all(value.shape == shapes[number].shape for number, value in found.items())
    return program if same else None


def _computed(program: Program) -> dict[Any, int]:
    """How often the program has each primitive that computes something."""
    names = (equation.primitive.name for equation in program.equations)
    return collections.Counter(name for name in names if name not in _ARRANGEMENT)


def _same_values(two: Equation, three: Equation) -> bool:
    if two.primitive is not three.primitive or two.outputs != three.outputs:
        raise NotAlikeError
    for a, b in zip(two.inputs, three.inputs, strict=True):
        if isinstance(a, int) or isinstance(b, int):  # a value's number
            if a != b:
                raise NotAlikeError
        else:
            _before(np.asarray(a), np.asarray(b))
    return True


def _before(two: Any, three: Any) -> Any:
    """What a parameter is for one image, if it is `two` for two of them and `three` for three."""
    if type(two) is not type(three):
        raise NotAlikeError
    if isinstance(two, np.ndarray | jax.Array):
        if two.shape != three.shape or not np.array_equal(two, three, equal_nan=True):
            raise NotAlikeError
        return two
    if isinstance(two, core.ClosedJaxpr | core.Jaxpr):
        if str(two) != str(three):
            raise NotAlikeError
        return two
    if isinstance(two, int) and not isinstance(two, bool):
        return 2 * two - three
    if isinstance(two, dict) and two.keys() == three.keys():
        return {key: _before(value, three[key]) for key, value in two.items()}
    if isinstance(two, tuple) and len(two) == len(three):
        parts = [_before(a, b) for a, b in zip(two, three, strict=True)]
        return type(two)(*parts) if hasattr(two, "_fields") else tuple(parts)
    if two != three:
        raise NotAlikeError
    return two
