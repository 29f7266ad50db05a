"""Operations that keep every pixel in its place."""

from jaxseg_xai.core.types import Array
from jaxseg_xai.incremental.rules.base import (
    NoRuleError,
    Reads,
    Rule,
    Spans,
    axes_of,
    cut,
    identity,
    single,
)

_NAMES = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type
copy copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow
is_finite le lgamma log log1p logistic lt max min mul name ne neg nextafter not or
population_count pow real reduce_precision rem round rsqrt select_n shift_left
shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh
xor
"""
ELEMENTWISE = frozenset(_NAMES.split())


def joint_dims(operands, rank: int) -> list[str | None]:
    """Image axes of what operands of one rank (or none) make together."""
    dims: list[str | None] = [None] * rank
    for operand in operands:
        for d, axis in enumerate(operand.dims):
            if axis is not None:
                if dims[d] not in (None, axis):
                    raise NoRuleError("its operands run along different axes of the image")
                dims[d] = axis
    return dims


def elementwise(equation, operands, shapes) -> Rule:
    """Arithmetic, comparisons, selections; dimensions of size 1 are repeated."""
    shape = shapes[0]
    dims = joint_dims(operands, len(shape))
    axes_of(dims)

    def own(operand) -> set[str]:
        """Its axes, but for those of size 1 that are repeated (a pooled map): these are whole."""
        pairs = zip(operand.dims, operand.shape, shape, strict=False)
        return {axis for axis, n, out in pairs if axis and n == out}

    def apply(frames: list[Array], window: Spans, _: Reads) -> list[Array]:
        pairs = zip(operands, frames, strict=True)
        return equation.bind(*(cut(operand, frame, dims, window) for operand, frame in pairs))

    return Rule(
        dims=(tuple(dims),) * len(shapes),
        reach=tuple(identity(operand, own(operand)) for operand in operands),
        apply=apply,
    )


def along(parameter: str):
    """Operations along given dimensions: reductions, sorting, splitting, cumulative sums."""

    def make(equation, operands, shapes) -> Rule:
        image, taken = single(operands), equation.params[parameter]
        taken = {taken} if isinstance(taken, int) else set(taken)
        removed = len(shapes[0]) < len(image.shape)
        if not removed and any(image.dims[d] for d in taken):
            raise NoRuleError(f"{equation.primitive.name} along an axis of the image")
        dims = tuple(axis for d, axis in enumerate(image.dims) if not (removed and d in taken))
        return Rule(
            dims=(dims,) * len(shapes),
            reach=(identity(image, axes_of(dims)),),
            apply=lambda frames, *_: equation.bind(*frames),
        )

    return make
