"""What equations cost: multiplications and additions of convolutions and matrix products."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core

from jaxseg_xai.ops.convolution import seen_taps

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

    A transposed convolution is counted without the zeros between its input's pixels, and widely
    dilated ones without the taps that see nothing but padding.
    """
    if name == "conv_general_dilated":
        return 2 * math.prod(outputs[0]) * _terms(params, inputs[0], inputs[1], outputs[0])
    if name == "dot_general":
        (summed, _), _ = params["dimension_numbers"]
        return 2 * math.prod(outputs[0]) * math.prod(inputs[0][d] for d in summed)
    if name == "cond":
        return max(_inside(branch)[0] for branch in params["branches"])
    return params.get("length", 1) * sum(_inside(body)[0] for body in _bodies(params))


def _terms(
    params: Mapping[str, Any],
    image: tuple[int, ...],
    kernel: tuple[int, ...],
    found: tuple[int, ...],
) -> int:
    """Products that a value of a convolution sums up."""
    numbers, terms = params["dimension_numbers"], kernel[params["dimension_numbers"].rhs_spec[1]]
    for i, (low, _) in enumerate(params["padding"]):
        size, taps = image[numbers.lhs_spec[2 + i]], kernel[numbers.rhs_spec[2 + i]]
        if params["lhs_dilation"][i] == 1:
            outputs, stride = found[numbers.out_spec[2 + i]], params["window_strides"][i]
            dilation = params["rhs_dilation"][i]
            taps = len(seen_taps(size, outputs, taps, low, dilation=dilation, stride=stride))
        terms *= taps
    return terms // math.prod(params["lhs_dilation"]) or 1


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
