"""Operations that move whole dimensions: reshapes, transposes, broadcasts, padding, slices."""

import math
from typing import Any

import numpy as np
from jax import lax

from jaxseg_xai.core.types import Array
from jaxseg_xai.incremental.intervals import Reach, strided
from jaxseg_xai.incremental.rules.base import (
    Dims,
    NoRuleError,
    Reads,
    Rule,
    Spans,
    axes_of,
    identity,
    resized,
    single,
)


def broadcast_in_dim(equation, operands, shapes) -> Rule:
    """New dimensions, and dimensions of size 1 repeated."""
    image, (shape,) = single(operands[:1]), shapes
    dims: list[str | None] = [None] * len(shape)
    for d, out in enumerate(equation.params["broadcast_dimensions"]):
        if image.shape[d] == shape[out]:
            dims[out] = image.dims[d]

    def apply(frames: list[Array], window: Spans, _: Reads) -> list[Array]:
        new = resized(shape, tuple(dims), window)
        return [lax.broadcast_in_dim(frames[0], new, equation.params["broadcast_dimensions"])]

    return Rule(dims=(tuple(dims),), reach=(identity(image, axes_of(dims)),), apply=apply)


def reshape(equation, operands, shapes) -> Rule:
    """Reshapes that keep the image's axes apart; rows may be split into groups, and joined."""
    image, (shape,) = single(operands), shapes
    if equation.params.get("dimensions") is not None:
        raise NoRuleError("a reshape in another order")
    dims: list[str | None] = [None] * len(shape)
    reach, align = {}, {}
    for sources, targets in _groups(image.shape, image.dims, shape):
        axes = [image.dims[d] for d in sources if image.dims[d]]
        if not axes:
            continue
        (axis, *more), size, out = axes, image.shape[sources[0]], shape[targets[0]]
        if more or image.dims[sources[0]] is None:
            raise NoRuleError("a reshape that mixes the image's axes with others")
        if size % out and out % size:
            raise NoRuleError("a reshape that cuts across the image's rows")
        dims[targets[0]] = axis
        factor, repeat = max(size // out, 1), max(out // size, 1)
        lo = np.arange(out) * factor // repeat
        reach[axis] = Reach(lo, lo + factor)
        align[axis] = repeat
    return Rule(
        dims=(tuple(dims),),
        reach=(reach,),
        apply=lambda frames, window, _: [frames[0].reshape(resized(shape, tuple(dims), window))],
        align=align,
    )


def _groups(
    before: tuple[int, ...], dims: Dims, after: tuple[int, ...]
) -> list[tuple[list[int], list[int]]]:
    """Dimensions whose elements stay together in a reshape.

    Those of size 1 could be in any group: only the image's axes among them (a single row that is
    repeated) are put into the one where they belong.
    """
    left, right = list(range(len(before))), list(range(len(after)))
    if before[:1] == after[:1] == (1,) and dims[0] is None:  # a batch of one
        del left[0], right[0]
    groups = []
    while left and right:
        if before[left[0]] == 1:
            if dims[left[0]] and after[right[0]] == 1:
                groups.append(([left.pop(0)], [right.pop(0)]))
                continue
            following = next((d for d in left if before[d] != 1), None)
            if dims[left[0]] is None or following is None or dims[following]:
                left.pop(0)
                continue
        elif after[right[0]] == 1:
            right.pop(0)
            continue
        sources, targets = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(before[d] for d in sources)) != (
            b := math.prod(after[d] for d in targets)
        ):
            (sources.append(left.pop(0)) if a < b else targets.append(right.pop(0)))
        groups.append((sources, targets))
    return groups


def transpose(equation, operands, shapes) -> Rule:
    """Dimensions in another order."""
    image, order = single(operands), equation.params["permutation"]
    return Rule(
        dims=(tuple(image.dims[d] for d in order),),
        reach=(identity(image, image.axes()),),
        apply=lambda frames, *_: [lax.transpose(frames[0], order)],
    )


def pad(equation, operands, shapes) -> Rule:
    """Padding with a constant, or cropping."""
    image, value = single(operands), operands[1]
    config = [tuple(entry) for entry in equation.params["padding_config"]]
    if value.constant is None:
        raise NoRuleError("padding with a weight")
    reach = {}
    for d, axis in enumerate(image.dims):
        if axis is not None:
            low, _, interior = config[d]
            if interior:
                raise NoRuleError("padding between pixels")
            reach[axis] = strided(shapes[0][d], first=-low, stride=1, extent=1)

    def apply(frames: list[Array], window: Spans, _: Reads) -> list[Array]:
        own = [
            entry if axis is None or window[axis].size == n else (0, 0, 0)
            for axis, n, entry in zip(image.dims, shapes[0], config, strict=True)
        ]
        return [lax.pad(frames[0], frames[1], own)]

    return Rule(
        dims=(image.dims,),
        reach=(reach, {}),
        apply=apply,
        pads=True,
        outside=float(value.constant),
    )


def slice_(equation, operands, shapes) -> Rule:
    """Slices with strides."""
    params = equation.params
    strides = params["strides"] or (1,) * len(shapes[0])
    return _sliced(operands, shapes[0], params["start_indices"], params["limit_indices"], strides)


def dynamic_slice(equation, operands, shapes) -> Rule:
    """Slices that begin at places known while tracing."""
    if any(operand.constant is None for operand in operands[1:]):
        raise NoRuleError("a slice at a place that is not known beforehand")
    sizes = equation.params["slice_sizes"]
    # Like JAX: slices that would leave the array are pushed back into it.
    room = zip(operands[0].shape, sizes, strict=True)
    start = [
        min(max(int(o.constant), 0), n - size)
        for o, (n, size) in zip(operands[1:], room, strict=True)
    ]
    limit = [low + size for low, size in zip(start, sizes, strict=True)]
    return _sliced(operands, shapes[0], start, limit, (1,) * len(sizes))


def _sliced(operands, shape, start, limit, strides) -> Rule:
    image = single(operands)
    reach = {}
    for d, axis in enumerate(image.dims):
        if axis is not None:
            reach[axis] = strided(shape[d], first=start[d], stride=strides[d], extent=1)

    def apply(frames: list[Array], *_: Any) -> list[Array]:
        frame = frames[0]
        lows = [0 if axis else low for axis, low in zip(image.dims, start, strict=True)]
        highs = [n if a else h for a, h, n in zip(image.dims, limit, frame.shape, strict=True)]
        return [lax.slice(frame, lows, highs, strides)]

    return Rule(dims=(image.dims,), reach=(reach, *({},) * (len(operands) - 1)), apply=apply)
