"""What equations cost: multiplications and additions of convolutions and matrix products."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core

_NAMES = """
while fft cholesky eigh qr svd triangular_solve lu ragged_dot conv_general_dilated_local
pallas_call ffi_call custom_call pure_callback reduce_window select_and_scatter_add
"""
#: Work that is neither counted nor negligible: no trip count, or no formula here.
UNCOUNTED = frozenset(_NAMES.split())


def flops_of(
    name: str,
    params: Mapping[str, Any],
    inputs: Sequence[tuple[int, ...]],
    outputs: Sequence[tuple[int, ...]],
) -> int:
    """FLOPs of an equation with inputs and outputs of these shapes; 0 for all else than products.

    A transposed convolution is counted without the zeros between its input's pixels.
    """
    if name == "conv_general_dilated":
        kernel = inputs[1]
        taps = math.prod(kernel) // kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2 * math.prod(outputs[0]) * taps // math.prod(params["lhs_dilation"])
    if name == "dot_general":
        (summed, _), _ = params["dimension_numbers"]
        return 2 * math.prod(outputs[0]) * math.prod(inputs[0][d] for d in summed)
    if name == "cond":
        return max(_inside(branch)[0] for branch in params["branches"])
    return params.get("length", 1) * sum(_inside(body)[0] for body in _bodies(params))


def uncounted_in(name: str, params: Mapping[str, Any]) -> set[str]:
    """Primitives in an equation, or the equation's own, whose cost `flops_of` leaves out."""
    if name in UNCOUNTED:
        return {name}
    bodies = [*_bodies(params), *params.get("branches", ())]
    return set().union(*(_inside(body)[1] for body in bodies))


def _bodies(params: Mapping[str, Any]) -> list[Any]:
    return [value for value in params.values() if isinstance(value, core.ClosedJaxpr | core.Jaxpr)]


def _inside(body: Any) -> tuple[int, set[str]]:
    """FLOPs of a jaxpr, and what they leave out."""
    flops, missing = 0, set()
    for eqn in (body.jaxpr if isinstance(body, core.ClosedJaxpr) else body).eqns:
        shapes = [[var.aval.shape for var in side] for side in (eqn.invars, eqn.outvars)]
        flops += flops_of(eqn.primitive.name, eqn.params, *shapes)
        missing |= uncounted_in(eqn.primitive.name, eqn.params)
    return flops, missing
