"""One rule per primitive; where there is none, the whole map is computed."""

from collections.abc import Sequence

from jaxseg_xai.incremental.rules import assembly, convolution, pointwise, product, shape
from jaxseg_xai.incremental.rules.base import Dims, NoRuleError, Operand, Rule, Span, Spans
from jaxseg_xai.program.trace import Equation

__all__ = ["Dims", "Operand", "Rule", "Span", "Spans", "dense", "rule_of"]

_RULES = {
    **dict.fromkeys(pointwise.ELEMENTWISE, pointwise.elementwise),
    "conv_general_dilated": convolution.conv,
    **{f"reduce_window_{name}": convolution.pooling for name in ("max", "min", "sum")},
    "dot_general": product.dot_general,
    "broadcast_in_dim": shape.broadcast_in_dim,
    "reshape": shape.reshape,
    "transpose": shape.transpose,
    "pad": shape.pad,
    "slice": shape.slice_,
    "dynamic_slice": shape.dynamic_slice,
    "concatenate": assembly.concatenate,
    "stack": assembly.stack,
    "rev": assembly.flip,
    "tile": assembly.tile,
    "gather": assembly.gather,
    "squeeze": pointwise.along("dimensions"),
    "split": pointwise.along("axis"),
    "sort": pointwise.along("dimension"),
    "top_k": pointwise.along("axis"),
    **{f"reduce_{n}": pointwise.along("axes") for n in ("sum", "max", "min", "prod", "and", "or")},
    **{name: pointwise.along("axes") for name in ("argmax", "argmin")},
    **{
        name: pointwise.along("axis")
        for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
    },
}


def rule_of(
    equation: Equation,
    operands: Sequence[Operand],
    shapes: Sequence[tuple[int, ...]],
    axes: Sequence[str],
) -> Rule:
    """The rule for an equation whose outputs have `shapes`; dense where there is none.

    Args:
      equation: to compute in windows.
      operands: its inputs.
      shapes: of its outputs.
      axes: of the images.
    """
    if not any(operand.axes() for operand in operands):
        return dense(equation, operands, shapes, axes)
    name = equation.primitive.name
    try:
        if name not in _RULES:
            raise NoRuleError(f"no rule for {name}")
        return _RULES[name](equation, operands, shapes)
    except NoRuleError as reason:
        return dense(equation, operands, shapes, axes, str(reason))


def dense(
    equation: Equation,
    operands: Sequence[Operand],
    shapes: Sequence[tuple[int, ...]],
    axes: Sequence[str],
    why: str = "its input is computed whole",
) -> Rule:
    """The whole outputs from whole inputs; windows go on after it where the shape allows it."""
    return Rule(
        dims=tuple(_likely_dims(equation, operands, shape, axes) for shape in shapes),
        reach=({},) * len(operands),
        apply=lambda frames, *_: equation.bind(*frames),
        why_dense=why,
    )


def _likely_dims(
    equation: Equation, operands: Sequence[Operand], shape: tuple[int, ...], axes: Sequence[str]
) -> Dims:
    """Which dimensions of a whole map are the image's: a guess.

    Any naming is correct, for windows are only kept where a rule can keep them; a good one lets
    what follows (a convolution after attention over tokens) have windows again.
    """
    alike = len(shape) == len(axes) + 2
    if equation.primitive.name == "conv_general_dilated" and alike:
        _, _, *spatial = equation.params["dimension_numbers"].out_spec
        named = dict(zip(spatial, axes, strict=True))
        return tuple(named.get(d) for d in range(len(shape)))
    for operand in operands:
        if len(operand.shape) == len(shape) and operand.axes():
            sizes = zip(operand.shape, shape, operand.dims, strict=True)
            if all(a == b for a, b, axis in sizes if axis):
                return operand.dims
    return (None, *axes, None) if alike else (None,) * len(shape)
