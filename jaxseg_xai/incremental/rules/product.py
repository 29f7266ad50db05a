"""Products of matrices: channels, interpolations, attention within windows."""

from jaxseg_xai.core.types import Array
from jaxseg_xai.incremental.intervals import Reach
from jaxseg_xai.incremental.rules.base import (
    NoRuleError,
    Reads,
    Rule,
    Spans,
    axes_of,
    identity,
    taken,
)


def dot_general(equation, operands, shapes) -> Rule:
    """Any product whose image axes are not summed over, and interpolations along one of them."""
    contract, batch = equation.params["dimension_numbers"]
    for side in (0, 1):
        if _is_interpolation(operands[side], operands[1 - side], contract[side], batch):
            return _interpolation(equation, operands, shapes, side)
    dims: list[str | None] = []
    for pair in zip(*batch, strict=True):
        named = {operand.dims[d] for operand, d in zip(operands, pair, strict=True)} - {None}
        if len(named) > 1:
            raise NoRuleError("its operands run along different axes of the image")
        dims += named or [None]
    for operand, *used in zip(operands, contract, batch, strict=True):
        dims += [axis for d, axis in enumerate(operand.dims) if all(d not in u for u in used)]
    try:
        axes = axes_of(dims)
    except NoRuleError:
        raise NoRuleError("a product of every position with every other (attention)") from None

    def apply(frames: list[Array], window: Spans, reads: Reads) -> list[Array]:
        for d, pair in enumerate(zip(*batch, strict=True)):
            for side, own in enumerate(pair):
                if (axis := dims[d]) and operands[side].dims[own] is None:
                    frames[side] = taken(frames[side], own, window[axis])
        return equation.bind(*frames)

    reach = []
    for operand, summed in zip(operands, contract, strict=True):
        reach.append(identity(operand, axes - {operand.dims[d] for d in summed}))
    return Rule(dims=(tuple(dims),), reach=tuple(reach), apply=apply)


def _is_interpolation(image, matrix, contract, batch) -> bool:
    """One axis of the image times a known matrix."""
    return (
        image.of_image
        and matrix.constant is not None
        and len(matrix.shape) == 2
        and len(contract) == 1
        and not batch[0]
        and image.dims[contract[0]] is not None
    )


def _interpolation(equation, operands, shapes, side: int) -> Rule:
    image, other, params = operands[side], operands[1 - side], equation.params
    contract, _ = params["dimension_numbers"]
    (mixed,), (column,) = contract[side], contract[1 - side]
    axis = image.dims[mixed]
    matrix = other.constant if column == 1 else other.constant.T
    filled = matrix != 0
    if not filled.any(1).all():
        raise NoRuleError("an interpolation with pixels that come from nowhere")
    along = Reach(filled.argmax(1), matrix.shape[1] - filled[:, ::-1].argmax(1))
    dims = [own for d, own in enumerate(image.dims) if d != mixed]
    dims.insert(len(dims) if side == 0 else 0, axis)
    reach = identity(image, axes_of(dims)) | {axis: along}

    def apply(frames: list[Array], window: Spans, reads: Reads) -> list[Array]:
        frame, read = frames[side], reads[side]
        assert read is not None
        # Rows are outputs, columns inputs; both are zero where a window leaves the image.
        rows = taken(taken(matrix, 0, window[axis]), 1, read[axis])
        pair = (frame, rows) if side == 0 else (rows, frame)
        numbers = (((mixed,), (1,)) if side == 0 else ((1,), (mixed,)), ((), ()))
        return [equation.primitive.bind(*pair, **{**params, "dimension_numbers": numbers})]

    return Rule(
        dims=(tuple(dims),),
        reach=(reach, {}) if side == 0 else ({}, reach),
        apply=apply,
        contracted=axis,
    )
