"""Convolutions and poolings."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.core.types import Array
from jaxseg_xai.incremental.intervals import Reach, strided
from jaxseg_xai.incremental.rules.base import NoRuleError, Reads, Rule, Span, Spans, shift, single
from jaxseg_xai.ops.convolution import seen_taps
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
    reach, align, axes = {}, {}, {}
    for i, d in enumerate(spatial):
        axis = image.dims[d]
        if axis is None:
            continue
        out = numbers.out_spec[2 + i]
        dims[out] = axis
        axes[axis] = found = _Axis.of(params, i, image.shape[d], kernel.shape, shapes[0][out])
        # Positions among the input pixels spread out by `spread` (transposed convolution).
        first = found.stride * np.arange(found.outputs) - found.low
        spread = found.spread
        reach[axis] = Reach(-(-first // spread), (first + found.extent - 1) // spread + 1)
        align[axis] = spread // math.gcd(spread, found.stride)

    def apply(frames: list[Array], window: Spans, reads: Reads) -> list[Array]:
        x, weights = jnp.asarray(frames[0]), jnp.asarray(frames[1])
        assert reads[0] is not None
        pads, changed = list(padding), {k: list(params[k]) for k in _PER_AXIS}
        for axis, own in axes.items():
            i, span, read = own.index, window[axis], reads[0][axis]
            d, k = spatial[i], numbers.rhs_spec[2 + i]
            weights = lax.slice_in_dim(weights, own.taps.start, own.taps.stop, axis=k)
            if span.size == own.outputs:
                pads[i] = (own.low, own.high)
            elif axis in taps and read.size == own.size and isinstance(read.start, int):
                x, weights = _picked(x, weights, (d, channel), (k, numbers.rhs_spec[1]), own, span)
                pads[i] = (0, 0)
                for values in changed.values():
                    values[i] = 1
            else:
                spread_out = (x.shape[d] - 1) * own.spread + 1
                wanted = (span.size - 1) * own.stride + own.extent
                # Between the first position that a window reads and the first pixel at or after it.
                before = own.low % own.spread
                pads[i] = (before, wanted - (spread_out + before))
        changed = {k: tuple(values) for k, values in changed.items()}
        return [convolve({**params, **changed}, [x, weights], pads)]

    taps = {}
    if params["feature_group_count"] == 1:
        taps = {a: len(own.taps) for a, own in axes.items() if own.dilation > 1 == own.spread}
    return Rule(
        dims=(tuple(dims),), reach=(reach, {}), apply=apply, align=align, pads=True, taps=taps
    )


_PER_AXIS = ("window_strides", "rhs_dilation")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Axis:
    """A convolution along one axis of the image.

    Attributes:
      index: among the axes of space.
      size: input pixels.
      outputs: output pixels.
      stride: from one output pixel to the next.
      spread: from one input pixel to the next.
      dilation: from one tap to the next.
      taps: of the kernel that see anything.
      low: pixels of padding before the axis, for these taps.
      high: and after it.
    """

    index: int
    size: int
    outputs: int
    stride: int
    spread: int
    dilation: int
    taps: range
    low: int
    high: int

    @property
    def extent(self) -> int:
        """Positions from the first tap to the last."""
        return (len(self.taps) - 1) * self.dilation + 1

    @classmethod
    def of(cls, params: Any, index: int, size: int, kernel: Sequence[int], outputs: int) -> "_Axis":
        count = kernel[params["dimension_numbers"].rhs_spec[2 + index]]
        stride, spread = params["window_strides"][index], params["lhs_dilation"][index]
        (low, high), d = params["padding"][index], params["rhs_dilation"][index]
        taps = range(count)
        if spread == 1:
            taps = seen_taps(size, outputs, count, low, dilation=d, stride=stride)
        return cls(
            index=index,
            size=size,
            outputs=outputs,
            stride=stride,
            spread=spread,
            dilation=d,
            taps=taps,
            low=low - taps.start * d,
            high=high - (count - taps.stop) * d,
        )


def _picked(
    x: jax.Array,
    weights: jax.Array,
    of_image: tuple[int, int],
    of_kernel: tuple[int, int],
    own: _Axis,
    span: Span,
) -> tuple[jax.Array, jax.Array]:
    """What the taps along an axis see of all of it, as further channels, and their weights.

    Args:
      x: all of the axis.
      weights: the kernel.
      of_image: dimensions of the axis and of the channels.
      of_kernel: the same.
      own: the convolution along the axis.
      span: output pixels.
    """
    parts, kept, (d, channel) = [], [], of_image
    length = (span.size - 1) * own.stride + 1
    for tap in range(len(own.taps)):
        low = tap * own.dilation - own.low
        first, last = (start * own.stride + low for start in (span.first, span.last))
        if last + length > 0 and first < own.size:
            part = shift(x, d, span.start * own.stride + low, length, (first, last))
            parts.append(lax.slice_in_dim(part, 0, length, own.stride, axis=d))
            kept.append(lax.slice_in_dim(weights, tap, tap + 1, axis=of_kernel[0]))
    return lax.concatenate(parts, channel), lax.concatenate(kept, of_kernel[1])


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

    def apply(frames: list[Array], window: Spans, _: Reads) -> list[Array]:
        pads = [
            pair if axis is None or window[axis].size == n else (0, 0)
            for axis, n, pair in zip(image.dims, shapes[0], padding, strict=True)
        ]
        return [equation.primitive.bind(*frames, **{**params, "padding": tuple(pads)})]

    # What the padding of the whole map holds: the neutral element.
    outside = {"reduce_window_max": -np.inf, "reduce_window_min": np.inf}
    return Rule(
        dims=(image.dims,),
        reach=(reach,),
        apply=apply,
        pads=True,
        outside=outside.get(equation.primitive.name, 0.0),
    )
