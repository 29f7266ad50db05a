"""Convolutions and poolings."""

import math
from typing import Any

import numpy as np

from jaxseg_xai.core.types import Array
from jaxseg_xai.incremental.intervals import Reach, strided
from jaxseg_xai.incremental.rules.base import NoRuleError, Reads, Rule, Spans, single
from jaxseg_xai.program.convolve import convolve


def conv(equation, operands, shapes) -> Rule:
    """Convolutions: strides, dilations, groups; transposed ones dilate their input."""
    image, kernel = single(operands), operands[1]
    params, numbers = equation.params, equation.params["dimension_numbers"]
    batch, channel, *spatial = numbers.lhs_spec
    if image.dims[batch] or image.dims[channel] or params["batch_group_count"] != 1:
        raise NoRuleError("a convolution over other axes than the image's")
    padding = [tuple(pair) for pair in params["padding"]]
    dims: list[str | None] = [None] * len(shapes[0])
    reach, align, geometry = {}, {}, {}
    for i, d in enumerate(spatial):
        axis = image.dims[d]
        if axis is None:
            continue
        out = numbers.out_spec[2 + i]
        dims[out] = axis
        stride, spread = params["window_strides"][i], params["lhs_dilation"][i]
        extent = (kernel.shape[numbers.rhs_spec[2 + i]] - 1) * params["rhs_dilation"][i] + 1
        # Positions among the input pixels spread out by `spread` (transposed convolution).
        first = stride * np.arange(shapes[0][out]) - padding[i][0]
        reach[axis] = Reach(-(-first // spread), (first + extent - 1) // spread + 1)
        align[axis] = spread // math.gcd(spread, stride)
        # Between the first position that a window reads and the first pixel at or after it.
        geometry[axis] = (i, padding[i][0] % spread, stride, spread, extent)

    def apply(frames: list[Array], window: Spans, _: Reads) -> list[Array]:
        pads = list(padding)
        for axis, (i, before, stride, spread, extent) in geometry.items():
            spread_out = (frames[0].shape[spatial[i]] - 1) * spread + 1
            wanted = (window[axis].size - 1) * stride + extent
            pads[i] = (before, wanted - (spread_out + before))
        return [convolve(params, frames, pads)]

    return Rule(dims=(tuple(dims),), reach=(reach, {}), apply=apply, align=align)


def pooling(equation, operands, shapes) -> Rule:
    """Maxima, minima and sums over sliding windows."""
    image, params = single(operands), equation.params
    padding = [tuple(pair) for pair in params["padding"]]
    reach = {}
    for d, axis in enumerate(image.dims):
        if axis is None:
            continue
        if params["base_dilation"][d] != 1:
            raise NoRuleError("a pooling of spread-out pixels")
        extent = (params["window_dimensions"][d] - 1) * params["window_dilation"][d] + 1
        stride = params["window_strides"][d]
        reach[axis] = strided(shapes[0][d], first=-padding[d][0], stride=stride, extent=extent)
        padding[d] = (0, 0)

    def apply(frames: list[Array], *_: Any) -> list[Array]:
        return [equation.primitive.bind(*frames, **{**params, "padding": tuple(padding)})]

    # What the padding of the whole map holds: the neutral element.
    outside = {"reduce_window_max": -np.inf, "reduce_window_min": np.inf}
    return Rule(
        dims=(image.dims,),
        reach=(reach,),
        apply=apply,
        outside=outside.get(equation.primitive.name, 0.0),
    )
