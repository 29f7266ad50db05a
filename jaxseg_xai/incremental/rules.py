"""One rule per primitive: which input pixels an output window reads, and how to compute it.

A rule says nothing about where windows are. `plan` finds those; `evaluate` reads the frames that a
rule asks for and calls its `apply`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.incremental.intervals import Reach, same, strided
from jaxseg_xai.incremental.trace import Equation
from jaxseg_xai.types import Array

#: Per dimension of an array: the image axis "y" or "x" whose window it follows, or None.
Dims = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class Operand:
    """An input of an equation.

    Attributes:
      shape: of the whole value.
      dims: image axes; all None for values that do not depend on the image.
      of_image: whether it depends on the image.
      constant: its value where that is known while tracing.
    """

    shape: tuple[int, ...]
    dims: Dims
    of_image: bool
    constant: np.ndarray | None = None

    def axes(self) -> set[str]:
        """The image axes it has."""
        return {axis for axis in self.dims if axis}


@dataclasses.dataclass(frozen=True)
class Span:
    """A window of one axis while evaluating.

    Attributes:
      start: int32 [], where it begins (traced).
      size: how many pixels.
    """

    start: Array
    size: int


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """How to compute a window of an equation's outputs.

    Attributes:
      dims: of every output.
      reach: per input the axes that it is read in windows of; its other axes are read whole.
      apply: (frames of the image's operands and the other operands whole, axis -> output window)
        -> windows of the outputs.
      align: axis -> output windows begin and end at multiples of this.
      outside: what the operation sees beyond the border of its input.
      flops: of an output pixel times channel and so on: per element of the first output.
      why_dense: why it has no windows, or "".
    """

    dims: tuple[Dims, ...]
    reach: tuple[Mapping[str, Reach], ...]
    apply: Callable[[list[Array], Mapping[str, Span]], list[Array]]
    align: Mapping[str, int] = dataclasses.field(default_factory=dict)
    outside: float = 0.0
    flops: int = 0
    why_dense: str = ""


class NoRuleError(Exception):
    """The equation has no windowed form; the message says why."""


def rule_of(
    equation: Equation, operands: Sequence[Operand], shapes: Sequence[tuple[int, ...]]
) -> Rule:
    """The rule for an equation whose outputs have `shapes`; dense where there is none."""
    name = equation.primitive.name
    make = _elementwise if name in _ELEMENTWISE else _RULES.get(name)
    try:
        if make is None:
            raise NoRuleError(f"no rule for {name}")
        return make(equation, operands, shapes)
    except NoRuleError as reason:
        return _dense(equation, operands, shapes, str(reason))


def _dense(equation, operands, shapes, why: str) -> Rule:
    """The whole output from whole inputs; windows go on after it where the shape allows it."""

    def keeps(operand: Operand, shape: tuple[int, ...]) -> bool:
        if len(operand.shape) != len(shape) or not operand.axes():
            return False
        return all(
            a == b for a, b, axis in zip(operand.shape, shape, operand.dims, strict=True) if axis
        )

    # Any naming of the dimensions is correct, for windows are only kept where a rule can keep them;
    # [B, H, W, C] is the likely one after what lost it (attention over tokens).
    likely: dict[int, Dims] = {4: (None, "y", "x", None)}
    dims = [
        next(
            (operand.dims for operand in operands if keeps(operand, shape)),
            likely.get(len(shape), (None,) * len(shape)),
        )
        for shape in shapes
    ]
    return Rule(
        dims=tuple(dims),
        reach=({},) * len(operands),
        apply=lambda frames, _: equation.bind(*frames),
        why_dense=why,
    )


def _identity(operand: Operand, axes: set[str]) -> dict[str, Reach]:
    sizes = zip(operand.dims, operand.shape, strict=True)
    return {axis: same(size) for axis, size in sizes if axis in axes}


def _single(operands: Sequence[Operand]) -> Operand:
    """The first operand, if it alone depends on the image."""
    if not operands[0].of_image or any(operand.of_image for operand in operands[1:]):
        raise NoRuleError("more than its first operand depends on the image")
    return operands[0]


def resized(shape: tuple[int, ...], dims: Dims, window: Mapping[str, Span]) -> list[int]:
    """A shape with the sizes of windows in it."""
    return [window[axis].size if axis else n for n, axis in zip(shape, dims, strict=True)]


def _elementwise(equation, operands, shapes) -> Rule:
    (shape, *_) = shapes
    dims: list[str | None] = [None] * len(shape)
    for operand in operands:
        for d, axis in enumerate(operand.dims):
            if axis is not None:
                if dims[d] not in (None, axis):
                    raise NoRuleError("its operands run along different axes")
                dims[d] = axis
    if len({axis for axis in dims if axis}) < sum(axis is not None for axis in dims):
        raise NoRuleError("one axis in two dimensions")
    axes = {axis for axis in dims if axis}

    def cut(operand: Operand, frame: Array, window: Mapping[str, Span]) -> Array:
        """What has no window of its own (weights, positions, global features) is cut to it."""
        for d, (axis, own) in enumerate(zip(dims, operand.dims or (), strict=False)):
            if axis and not own and operand.shape[d] > 1:
                frame = lax.dynamic_slice_in_dim(frame, window[axis].start, window[axis].size, d)
        return frame

    def apply(frames: list[Array], window: Mapping[str, Span]) -> list[Array]:
        pairs = zip(operands, frames, strict=True)
        return equation.bind(*(cut(operand, frame, window) for operand, frame in pairs))

    return Rule(
        dims=(tuple(dims),) * len(shapes),
        reach=tuple(_identity(operand, axes) for operand in operands),
        apply=apply,
    )


def _conv(equation, operands, shapes) -> Rule:
    image, kernel = operands
    _single(operands)
    params, numbers = equation.params, equation.params["dimension_numbers"]
    batch, channel, *spatial = numbers.lhs_spec
    if image.dims[batch] or image.dims[channel] or params["batch_group_count"] != 1:
        raise NoRuleError("a convolution over other axes than the image's")
    padding = [tuple(pair) for pair in params["padding"]]
    dims: list[str | None] = [None] * len(shapes[0])
    reach, align, phase = {}, {}, {}
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
        reach[axis] = Reach(first // spread, (first + extent - 1) // spread + 1)
        align[axis] = spread // math.gcd(spread, stride)
        if shapes[0][out] % align[axis]:
            raise NoRuleError(
                "a transposed convolution to a size that is no multiple of its stride"
            )
        phase[axis] = (i, -padding[i][0] % spread, stride, spread, extent)

    def apply(frames: list[Array], window: Mapping[str, Span]) -> list[Array]:
        pads = list(padding)
        for axis, (i, skip, stride, spread, extent) in phase.items():
            # The frame begins `skip` spread-out positions early and ends where it must.
            spread_out = (frames[0].shape[spatial[i]] - 1) * spread + 1
            wanted = (window[axis].size - 1) * stride + extent
            pads[i] = (-skip, wanted - (spread_out - skip))
        return (equation.primitive.bind(*frames, **{**params, "padding": tuple(pads)}),)

    per_output = 2 * math.prod(kernel.shape) // kernel.shape[numbers.rhs_spec[0]]
    return Rule(dims=(tuple(dims),), reach=(reach, {}), apply=apply, align=align, flops=per_output)


def _reduce_window(equation, operands, shapes) -> Rule:
    image, params = _single(operands), equation.params
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

    def apply(frames: list[Array], _: Mapping[str, Span]) -> list[Array]:
        return [equation.primitive.bind(*frames, **{**params, "padding": tuple(padding)})]

    outside = {"reduce_window_max": -np.inf, "reduce_window_min": np.inf}
    return Rule(
        dims=(image.dims,),
        reach=(reach,),
        apply=apply,
        outside=outside.get(equation.primitive.name, 0.0),
    )


def _broadcast_in_dim(equation, operands, shapes) -> Rule:
    image, (shape,) = _single(operands[:1]), shapes
    dims: list[str | None] = [None] * len(shape)
    for d, out in enumerate(equation.params["broadcast_dimensions"]):
        if image.shape[d] == shape[out]:
            dims[out] = image.dims[d]
    kept = {axis for axis in dims if axis}

    def apply(frames: list[Array], window: Mapping[str, Span]) -> list[Array]:
        new = resized(shape, tuple(dims), window)
        return [lax.broadcast_in_dim(frames[0], new, equation.params["broadcast_dimensions"])]

    return Rule(dims=(tuple(dims),), reach=(_identity(image, kept),), apply=apply)


def _reshape(equation, operands, shapes) -> Rule:
    image, (shape,) = _single(operands), shapes
    if equation.params.get("dimensions") is not None:
        raise NoRuleError("a reshape in another order")
    dims: list[str | None] = [None] * len(shape)
    reach, align = {}, {}
    for sources, targets in _groups(image.shape, shape):
        axes = [image.dims[d] for d in sources if image.dims[d]]
        if not axes:
            continue
        if len(axes) > 1 or image.dims[sources[0]] is None or not targets:
            raise NoRuleError("a reshape that mixes the image's axes")
        axis, size, out = axes[0], image.shape[sources[0]], shape[targets[0]]
        dims[targets[0]] = axis
        if size % out and out % size:
            raise NoRuleError("a reshape that cuts across the image's rows")
        factor = max(size // out, 1)
        repeat = max(out // size, 1)
        pixel = np.arange(out)
        lo = pixel * factor if repeat == 1 else pixel // repeat
        reach[axis] = Reach(lo, lo + factor)
        align[axis] = repeat
    return Rule(
        dims=(tuple(dims),),
        reach=(reach,),
        apply=lambda frames, window: [frames[0].reshape(resized(shape, tuple(dims), window))],
        align=align,
    )


def _groups(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Dimensions (but those of size 1) whose elements stay together in a reshape."""
    left = [d for d, n in enumerate(before) if n != 1]
    right = [d for d, n in enumerate(after) if n != 1]
    groups = []
    while left and right:
        sources, targets = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(before[d] for d in sources)) != (
            b := math.prod(after[d] for d in targets)
        ):
            (sources.append(left.pop(0)) if a < b else targets.append(right.pop(0)))
        groups.append((sources, targets))
    return groups


def _transpose(equation, operands, _) -> Rule:
    image, order = _single(operands), equation.params["permutation"]
    return Rule(
        dims=(tuple(image.dims[d] for d in order),),
        reach=(_identity(image, image.axes()),),
        apply=lambda frames, _: [lax.transpose(frames[0], order)],
    )


def _concatenate(equation, operands, shapes) -> Rule:
    d = equation.params["dimension"]
    if any(operand.dims[d] for operand in operands):
        raise NoRuleError("a concatenation along an axis of the image")
    return _elementwise(equation, operands, shapes)


def _pad(equation, operands, shapes) -> Rule:
    image, (_, value) = _single(operands), operands
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
            config[d] = (0, 0, 0)
    return Rule(
        dims=(image.dims,),
        reach=(reach, {}),
        apply=lambda frames, _: [lax.pad(*frames, config)],
        outside=float(value.constant),
    )


def _slice(equation, operands, shapes) -> Rule:
    image, params = _single(operands), equation.params
    strides = params["strides"] or (1,) * len(image.shape)
    start, limit = list(params["start_indices"]), list(params["limit_indices"])
    reach = {}
    for d, axis in enumerate(image.dims):
        if axis is not None:
            reach[axis] = strided(shapes[0][d], first=start[d], stride=strides[d], extent=1)

    def apply(frames: list[Array], _: Mapping[str, Span]) -> list[Array]:
        (frame,) = frames
        lows = [0 if axis else low for axis, low in zip(image.dims, start, strict=True)]
        highs = [n if a else h for a, h, n in zip(image.dims, limit, frame.shape, strict=True)]
        return [lax.slice(frame, lows, highs, strides)]

    return Rule(dims=(image.dims,), reach=(reach,), apply=apply)


def _along(parameter: str):
    """Operations along given dimensions: reductions, sorting, splitting, cumulative sums."""

    def make(equation, operands, shapes) -> Rule:
        image, taken = _single(operands), equation.params[parameter]
        taken = {taken} if isinstance(taken, int) else set(taken)
        removed = len(shapes[0]) < len(image.shape)
        if not removed and any(image.dims[d] for d in taken):
            raise NoRuleError(f"{equation.primitive.name} along an axis of the image")
        dims = tuple(axis for d, axis in enumerate(image.dims) if not (removed and d in taken))
        return Rule(
            dims=(dims,) * len(shapes),
            reach=(_identity(image, {axis for axis in dims if axis}),),
            apply=lambda frames, _: equation.bind(*frames),
        )

    return make


def _dot_general(equation, operands, shapes) -> Rule:
    (contract, batch), params = equation.params["dimension_numbers"], equation.params
    side = 0 if operands[0].of_image else 1
    image, other = operands[side], operands[1 - side]
    if other.of_image:
        raise NoRuleError("a product of two values of the image (attention)")
    if any(image.dims[d] for d in batch[side]):
        raise NoRuleError("a product with one weight per pixel")
    free = [
        [d for d in range(len(o.shape)) if d not in contract[k] and d not in batch[k]]
        for k, o in enumerate(operands)
    ]
    dims: list[str | None] = [None] * len(batch[0])
    for k in (0, 1):
        dims += [operands[k].dims[d] if k == side else None for d in free[k]]
    reach = _identity(image, {axis for axis in dims if axis})
    flops = 2 * math.prod(image.shape[d] for d in contract[side])
    mixed = [d for d in contract[side] if image.dims[d]]
    if not mixed:
        return Rule(
            dims=(tuple(dims),),
            reach=(reach, {}) if side == 0 else ({}, reach),
            apply=lambda frames, _: equation.bind(*frames),
            flops=flops,
        )
    # An interpolation: one axis times a known matrix of few diagonals.
    if len(contract[0]) > 1 or batch[0] or len(other.shape) != 2 or other.constant is None:
        raise NoRuleError("a product that mixes all positions")
    axis, column = image.dims[mixed[0]], contract[1 - side][0]
    assert axis is not None
    matrix = other.constant if column == 1 else other.constant.T
    filled = matrix != 0
    first, last = filled.argmax(1), matrix.shape[1] - filled[:, ::-1].argmax(1)
    if not filled.any(1).all() or (np.diff(first) < 0).any() or (np.diff(last) < 0).any():
        raise NoRuleError("a product that mixes all positions")
    place = len(dims) - 1 if side == 0 else len(batch[0])
    dims[place] = axis
    reach[axis] = Reach(first, last)

    def apply(frames: list[Array], window: Mapping[str, Span]) -> list[Array]:
        span, frame = window[axis], frames[side]
        rows = lax.dynamic_slice_in_dim(jnp.asarray(matrix), span.start, span.size, 0)
        begin = frame_start(jnp.asarray(first), span, frame.shape[mixed[0]], matrix.shape[1])
        rows = lax.dynamic_slice_in_dim(rows, begin, frame.shape[mixed[0]], 1)
        rows = rows.astype(frame.dtype)
        pair = (frame, rows) if side == 0 else (rows, frame)
        numbers = ((mixed, [1]), ([], [])) if side == 0 else (([1], mixed), ([], []))
        return [
            lax.dot_general(
                *pair,
                numbers,
                precision=params["precision"],
                preferred_element_type=params["preferred_element_type"],
            )
        ]

    return Rule(
        dims=(tuple(dims),),
        reach=(reach, {}) if side == 0 else ({}, reach),
        apply=apply,
        flops=2 * int((last - first).max()),
    )


def frame_start(lo: Array, window: Span, size: int, whole: int) -> jax.Array:
    """Where the frame that a window reads begins, kept inside the axis."""
    return jnp.clip(lo[window.start], 0, whole - size)


_ELEMENTWISE = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "add",
        "add_any",
        "and",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "cbrt",
        "ceil",
        "clamp",
        "convert_element_type",
        "copy",
        "copy_p",
        "cos",
        "cosh",
        "digamma",
        "div",
        "eq",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "imag",
        "integer_pow",
        "is_finite",
        "le",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "nextafter",
        "not",
        "or",
        "population_count",
        "pow",
        "real",
        "reduce_precision",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "shift_left",
        "shift_right_arithmetic",
        "shift_right_logical",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "stop_gradient",
        "sub",
        "tan",
        "tanh",
        "xor",
    ]
)

_RULES = {
    "conv_general_dilated": _conv,
    "reduce_window_max": _reduce_window,
    "reduce_window_min": _reduce_window,
    "reduce_window_sum": _reduce_window,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "pad": _pad,
    "slice": _slice,
    "dot_general": _dot_general,
    "squeeze": _along("dimensions"),
    "split": _along("axis"),
    **{f"reduce_{name}": _along("axes") for name in ("sum", "max", "min", "prod", "and", "or")},
    **{name: _along("axes") for name in ("argmax", "argmin")},
    **{name: _along("axis") for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")},
    "rev": _along("dimensions"),
}
