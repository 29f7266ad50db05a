"""Operations that put pixels in other places: joining, flipping, picking by index."""

import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.types import Array
from jaxseg_xai.incremental.intervals import Reach, segment
from jaxseg_xai.incremental.rules.base import (
    NoRuleError,
    Reads,
    Rule,
    Spans,
    axes_of,
    cut,
    identity,
    shift,
    single,
    taken,
)
from jaxseg_xai.incremental.rules.pointwise import elementwise, joint_dims


def concatenate(equation, operands, shapes) -> Rule:
    """Joins along channels, or along an axis of the image (padding by the edge, reflections)."""
    (shape,), d = shapes, equation.params["dimension"]
    dims = joint_dims(operands, len(shape))
    axis = dims[d]
    if axis is None:
        return elementwise(equation, operands, shapes)
    others, rest = axes_of(dims) - {axis}, [a if k != d else None for k, a in enumerate(dims)]
    first = np.cumsum([0, *(operand.shape[d] for operand in operands)])
    reach = []
    for place, operand in zip(first[:-1], operands, strict=True):
        own = identity(operand, others)
        if operand.dims[d]:
            own[axis] = segment(shape[d], first=int(place), count=operand.shape[d])
        reach.append(own)

    def apply(frames: list[Array], window: Spans, reads: Reads) -> list[Array]:
        span = window[axis]
        pixel = (jnp.arange(span.size) + span.start).reshape([-1 if k == d else 1 for k in rest_at])
        found = None
        for k, (operand, frame) in enumerate(zip(operands, frames, strict=True)):
            frame = cut(operand, frame, rest, window)
            read = (reads[k] or {}).get(axis)
            start = read.start if read else 0
            # From the window's first pixel to the frame's, both counted in this operand.
            placed = shift(frame, d, span.start - int(first[k]) - start, span.size)
            found = placed if found is None else jnp.where(pixel >= first[k], placed, found)
        return [found]

    rest_at = range(len(shape))
    return Rule(dims=(tuple(dims),), reach=tuple(reach), apply=apply)


def stack(equation, operands, shapes) -> Rule:
    """Joins along a new dimension."""
    d, inner = equation.params["axis"], len(shapes[0]) - 1
    dims = joint_dims(operands, inner)
    axes = axes_of(dims)

    def apply(frames: list[Array], window: Spans, reads: Reads) -> list[Array]:
        parts = [cut(o, frame, dims, window) for o, frame in zip(operands, frames, strict=True)]
        return equation.bind(*parts)

    return Rule(
        dims=((*dims[:d], None, *dims[d:]),),
        reach=tuple(identity(operand, axes) for operand in operands),
        apply=apply,
    )


def flip(equation, operands, shapes) -> Rule:
    """The other way round along some dimensions."""
    image = single(operands)
    reach = identity(image, axes_of(image.dims))
    for d in equation.params["dimensions"]:
        if axis := image.dims[d]:
            pixel = image.shape[d] - 1 - np.arange(image.shape[d])
            reach[axis] = Reach(pixel, pixel + 1)
    return Rule(dims=(image.dims,), reach=(reach,), apply=lambda frames, *_: equation.bind(*frames))


def tile(equation, operands, shapes) -> Rule:
    """Whole repetitions."""
    image, reps = single(operands), equation.params["reps"]
    axes = axes_of(image.dims)
    if any(axis and n > 1 for axis, n in zip(image.dims, reps, strict=True)):
        raise NoRuleError("repetitions of the whole image")
    return Rule(
        dims=(image.dims,),
        reach=(identity(image, axes),),
        apply=lambda frames, *_: equation.bind(*frames),
    )


def gather(equation, operands, shapes) -> Rule:
    """Pixels picked along one axis by known indices (nearest neighbours), or pieces of channels."""
    image, indices = single(operands), operands[1].constant
    numbers, params = equation.params["dimension_numbers"], equation.params
    d = numbers.start_index_map[0] if len(numbers.start_index_map) == 1 else -1
    sizes = [1 if k == d else n for k, n in enumerate(image.shape)]
    if (
        indices is None
        or indices.ndim != 2
        or indices.shape[1] != 1
        or list(params["slice_sizes"]) != sizes
        or tuple(numbers.collapsed_slice_dims) != (d,)
        or numbers.operand_batching_dims
    ):
        raise NoRuleError("a gather other than by known indices along one axis")
    picked = indices[:, 0].astype(int)
    if picked.min() < 0 or picked.max() >= image.shape[d]:
        raise NoRuleError("a gather from outside the array")
    place = next(k for k in range(len(shapes[0])) if k not in numbers.offset_dims)
    dims = [axis for k, axis in enumerate(image.dims) if k != d]
    axis, along = image.dims[d], Reach(picked, picked + 1)
    dims.insert(place, axis)
    reach = identity(image, axes_of(dims)) | ({axis: along} if axis else {})

    def apply(frames: list[Array], window: Spans, reads: Reads) -> list[Array]:
        chosen, read = picked, reads[0]
        if axis and read:
            chosen = taken(picked, 0, window[axis]) - read[axis].start
        found = jnp.take(frames[0], chosen, axis=d, mode="clip")
        return [jnp.moveaxis(found, d, place)]

    return Rule(dims=(tuple(dims),), reach=(reach, {}), apply=apply)
