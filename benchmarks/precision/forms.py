"""A model in low precision, emulated: factors of products rounded, sums in float32.

Plain, or of what changes alone: see `benchmarks.precision.__main__`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.types import Array
from jaxseg_xai.program.trace import Equation, Program, operand

#: Bits of the fraction.
BITS = {"bfloat16": 7, "tensorfloat32": 10, "bfloat16 x 3": 7}
_PRODUCTS = ("conv_general_dilated", "dot_general")
_NAMES = """
broadcast_in_dim conv_general_dilated convert_element_type copy copy_p cumsum div dot_general
dynamic_slice gather mul neg reduce_sum reduce_window_sum reshape rev slice split squeeze tile
transpose
"""
#: Linear in the one operand that depends on the image; and in all, but for what is added.
_LINEAR = frozenset(_NAMES.split())
_AFFINE = frozenset(["add", "add_any", "concatenate", "pad", "select_n", "sub"])


@dataclasses.dataclass(frozen=True)
class Form:
    """How interventions are evaluated.

    Attributes:
      difference: rather than plain.
      factors: of products, one of `BITS`.
    """

    difference: bool
    factors: str


FORMS = [Form(way, factors) for way in (False, True) for factors in BITS]


def products(equation: Equation, operands: Sequence[Array], factors: str) -> list[Array]:
    """An equation of two factors of which neither is a known number, with rounded ones."""
    high = [rounded(x, factors) for x in operands]
    if factors != "bfloat16 x 3":
        return equation.bind(*high)
    low = [rounded(x - h, factors) for x, h in zip(operands, high, strict=True)]
    first = equation.bind(high[0], high[1] + low[1])
    return [a + b for a, b in zip(first, equation.bind(low[0], high[1]), strict=True)]


def rounded(x: Array, factors: str) -> jax.Array:
    """To the nearest number of a format with float32's exponents."""
    return lax.reduce_precision(jnp.asarray(x), 8, BITS[factors])


def plain(program: Program, values: dict[int, Array], image: Array, factors: str) -> Array:
    """The logits of changed images [P, *S, C]; `values` has those of the weights."""
    values = {**values, program.image: image}
    for equation in program.equations:
        if equation.outputs[0] in program.of_image:
            operands = [operand(values, atom) for atom in equation.inputs]
            rounds = _is_product(equation)
            found = products(equation, operands, factors) if rounds else equation.bind(*operands)
            values.update(zip(equation.outputs, found, strict=True))
    return values[program.logits]


def difference(program: Program, values: Mapping[int, Array], change: Array, factors: str) -> Array:
    """What changes of images [P, *S, C] change of the logits.

    Args:
      program: for P images.
      values: of the weights, and all of the unperturbed image (P times).
      change: of the images.
      factors: of products.
    """
    changes = {program.image: change}
    for equation in program.equations:
        if equation.outputs[0] not in program.of_image:
            continue
        base = [operand(values, atom) for atom in equation.inputs]
        own = [changes.get(atom) if isinstance(atom, int) else None for atom in equation.inputs]
        if _is_linear(equation, own):
            alone = _alone(equation, base, own)
            rounds = _is_product(equation)
            found = products(equation, alone, factors) if rounds else equation.bind(*alone)
        else:
            moved = [_moved(b, c) for b, c in zip(base, own, strict=True)]
            without = [values[out] for out in equation.outputs]
            pairs = zip(equation.bind(*moved), without, strict=True)
            found = [a - b if _is_number(a) else a for a, b in pairs]
        changes.update(zip(equation.outputs, found, strict=True))
    return changes[program.logits]


def _is_product(equation: Equation) -> bool:
    """Interpolations have known factors, and few of them."""
    made = all(isinstance(atom, int) for atom in equation.inputs)
    return equation.primitive.name in _PRODUCTS and made


def _is_linear(equation: Equation, changes: Sequence[Array | None]) -> bool:
    name, own = equation.primitive.name, [change for change in changes if change is not None]
    if not all(map(_is_number, own)):
        return False
    if name == "select_n":
        return changes[0] is None
    if name in _AFFINE:
        return True
    return name in _LINEAR and len(own) == 1 and (name != "div" or changes[0] is not None)


def _alone(
    equation: Equation, base: Sequence[Array], changes: Sequence[Array | None]
) -> list[Array]:
    """The operands of a linear equation for the change alone: what is added does not change."""
    name, found = equation.primitive.name, []
    for place, (own, change) in enumerate(zip(base, changes, strict=True)):
        added = name in _AFFINE and not (name == "select_n" and place == 0)
        found.append(change if change is not None else jnp.zeros_like(own) if added else own)
    return found


def _moved(base: Array, change: Array | None) -> Array:
    if change is None:
        return base
    return base + change if _is_number(change) else change


def _is_number(x: Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating))
