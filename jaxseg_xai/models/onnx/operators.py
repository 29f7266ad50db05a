"""Operators without a place in the image: number by number, along an axis, or of shapes."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.models.onnx.node import Node
from jaxseg_xai.ops.products import matmul


def with_axis(node: Node, axis: int) -> Node:
    """The same along another axis."""
    return dataclasses.replace(node, attributes=node.attributes | {"axis": axis})


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator without attributes."""
    return lambda node, *inputs: function(*inputs)


def _folded(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator of any number of inputs."""

    def fold(node: Node, first: Any, *rest: Any) -> Any:
        for other in rest:
            first = function(first, other)
        return first

    return fold


def _divide(a: Any, b: Any) -> Any:
    whole = jnp.issubdtype(jnp.result_type(a, b), jnp.integer)
    return lax.div(*jnp.broadcast_arrays(a, b)) if whole else jnp.divide(a, b)


def _power(node: Node, x: Any, y: Any) -> Any:
    """A whole constant power has a cheaper form, and a gradient where x is 0."""
    if isinstance(y, np.ndarray) and y.size == 1 and float(y.item()).is_integer():
        return x ** int(y.item())
    return jnp.power(x, y).astype(x.dtype)


def _clip(node: Node, x: Any, least: Any = None, most: Any = None) -> Any:
    x = x if least is None else jnp.maximum(x, least)
    return x if most is None else jnp.minimum(x, most)


def _cast(node: Node, x: Any, *_: Any) -> Any:
    """Among floating types it stays what it is: half precision is the caller's choice."""
    import onnx

    wanted = onnx.helper.tensor_dtype_to_np_dtype(node.get("to", 1))
    floats = jnp.issubdtype(x.dtype, jnp.floating)
    if floats and wanted.kind not in "iub":
        return x
    return x.astype(jax.dtypes.canonicalize_dtype(wanted))


def _cast_like(node: Node, x: Any, like: Any) -> Any:
    return x.astype(like.dtype)


def _gelu(node: Node, x: Any) -> Any:
    return jax.nn.gelu(x, approximate=node.get("approximate", "none") == "tanh")


def _hard_sigmoid(node: Node, x: Any) -> Any:
    return jnp.clip(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


def _prelu(node: Node, x: Any, slope: Any) -> Any:
    return jnp.where(x < 0, slope * x, x)


def _concat(node: Node, *inputs: Any) -> Any:
    return jnp.concatenate(inputs, axis=node.attributes["axis"])


def _softmax(node: Node, x: Any) -> Any:
    return jax.nn.softmax(x, axis=node.get("axis", -1))


def _log_softmax(node: Node, x: Any) -> Any:
    return jax.nn.log_softmax(x, axis=node.get("axis", -1))


#: Name -> operator that does not care for the layout.
ANY_LAYOUT: dict[str, Callable[..., Any]] = {
    "Abs": _plain(jnp.abs),
    "Add": _plain(jnp.add),
    "And": _plain(jnp.logical_and),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _plain(jnp.ceil),
    "Clip": _clip,
    "Concat": _concat,
    "Cos": _plain(jnp.cos),
    "Div": _plain(_divide),
    "Dropout": lambda node, x, *_: x,
    "Elu": lambda node, x: jax.nn.elu(x, node.get("alpha", 1.0)),
    "Equal": _plain(jnp.equal),
    "Erf": _plain(jax.scipy.special.erf),
    "Exp": _plain(jnp.exp),
    "Floor": _plain(jnp.floor),
    "Gelu": _gelu,
    "Greater": _plain(jnp.greater),
    "GreaterOrEqual": _plain(jnp.greater_equal),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(jax.nn.hard_swish),
    "Identity": _plain(lambda x: x),
    "LeakyRelu": lambda node, x: jax.nn.leaky_relu(x, node.get("alpha", 0.01)),
    "Less": _plain(jnp.less),
    "LessOrEqual": _plain(jnp.less_equal),
    "Log": _plain(jnp.log),
    "LogSoftmax": _log_softmax,
    "Max": _folded(jnp.maximum),
    "Min": _folded(jnp.minimum),
    "Mish": _plain(jax.nn.mish),
    "Mul": _plain(jnp.multiply),
    "Neg": _plain(jnp.negative),
    "Not": _plain(jnp.logical_not),
    "Or": _plain(jnp.logical_or),
    "PRelu": _prelu,
    "Pow": _power,
    "Reciprocal": _plain(jnp.reciprocal),
    "Relu": _plain(jax.nn.relu),
    "Sigmoid": _plain(jax.nn.sigmoid),
    "Sin": _plain(jnp.sin),
    "Softmax": _softmax,
    "Softplus": _plain(jax.nn.softplus),
    "Sqrt": _plain(jnp.sqrt),
    "Sub": _plain(jnp.subtract),
    "Sum": _folded(jnp.add),
    "Tanh": _plain(jnp.tanh),
    "Where": _plain(jnp.where),
}
#: Of them, those along an axis that is the last by default.
LAST_AXIS = {"Softmax", "LogSoftmax"}


def _known(node: Node, value: Any) -> list[int]:
    """Numbers of a shape."""
    if not isinstance(value, np.ndarray):
        raise node.unsupported("a shape that depends on the values of the image")
    return np.atleast_1d(value).tolist()


def _reshape(node: Node, x: Any, shape: Any) -> Any:
    wanted = _known(node, shape)
    if not node.get("allowzero", 0):
        wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return jnp.reshape(x, wanted)


def _flatten(node: Node, x: Any) -> Any:
    axis = node.get("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _transpose(node: Node, x: Any) -> Any:
    return jnp.transpose(x, node.get("perm", None))


def _squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    return jnp.squeeze(x, None if axes is None else tuple(_known(node, axes)))


def _unsqueeze(node: Node, x: Any, axes: Any) -> Any:
    return jnp.expand_dims(x, tuple(_known(node, axes)))


def _expand(node: Node, x: Any, shape: Any) -> Any:
    return jnp.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(_known(node, shape))))


def _tile(node: Node, x: Any, repeats: Any) -> Any:
    return jnp.tile(x, _known(node, repeats))


def _slice(node: Node, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    first, last = _known(node, starts), _known(node, ends)
    along = list(range(len(first))) if axes is None else _known(node, axes)
    by = [1] * len(first) if steps is None else _known(node, steps)
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        chosen = range(x.shape[axis])[start:end:step]
        if step < 0:
            x, chosen = jnp.flip(x, axis), range(x.shape[axis])[_mirrored(chosen, x.shape[axis])]
        if len(chosen) < x.shape[axis]:
            stop = chosen[-1] + 1 if chosen else 0
            start = chosen[0] if chosen else 0
            x = lax.slice_in_dim(x, start, stop, stride=max(1, chosen.step), axis=axis % x.ndim)
    return x


def _mirrored(chosen: range, size: int) -> slice:
    """The same places, counted from the other end."""
    return slice(size - 1 - chosen.start, size - 1 - chosen.stop, -chosen.step)


def _split(node: Node, x: Any, sizes: Any = None) -> list[Any]:
    axis, parts = node.get("axis", 0) % x.ndim, len(node.outputs)
    if sizes is None:
        size = math.ceil(x.shape[axis] / parts)
        lengths = [min(size, x.shape[axis] - i * size) for i in range(parts)]
    else:
        lengths = _known(node, sizes)
    ends = np.cumsum(lengths).tolist()
    return [
        lax.slice_in_dim(x, end - n, end, axis=axis) for end, n in zip(ends, lengths, strict=True)
    ]


def _gather(node: Node, x: Any, indices: Any) -> Any:
    axis = node.get("axis", 0) % x.ndim
    if isinstance(indices, np.ndarray) and np.ndim(indices) == 0:
        return lax.index_in_dim(jnp.asarray(x), int(indices), axis, keepdims=False)
    return jnp.take(x, indices, axis=axis, mode="wrap")


def _pad(node: Node, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    numbers = _known(node, pads)
    along = list(range(x.ndim)) if axes is None else [a % x.ndim for a in _known(node, axes)]
    half = len(numbers) // 2
    widths = [(0, 0)] * x.ndim
    for axis, lo, hi in zip(along, numbers[:half], numbers[half:], strict=True):
        widths[axis] = (lo, hi)
    for axis, (lo, hi) in enumerate(widths):  # negative ones cut off
        x = lax.slice_in_dim(x, max(0, -lo), x.shape[axis] - max(0, -hi), axis=axis)
    widths = [(max(0, lo), max(0, hi)) for lo, hi in widths]
    mode = node.get("mode", "constant")
    if mode != "constant":
        return jnp.pad(x, widths, mode=mode)
    fill = 0 if value is None else np.asarray(value).item()
    return jnp.pad(x, widths, constant_values=fill)


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator over axes, which are an attribute up to opset 17 and then an input."""

    def reduce(node: Node, x: Any, axes: Any = None) -> Any:
        along: Sequence[int] | None = node.get("axes", None)
        if axes is not None:
            along = _known(node, axes)
        if not along:
            if node.get("noop_with_empty_axes", 0):
                return x
            along = range(x.ndim)
        return function(x, axis=tuple(along), keepdims=bool(node.get("keepdims", 1)))

    return reduce


def _layer_norm(node: Node, x: Any, scale: Any, bias: Any = None) -> Any:
    axes = tuple(range(node.get("axis", -1) % x.ndim, x.ndim))
    distance = x - jnp.mean(x, axes, keepdims=True)
    variance = jnp.mean(distance**2, axes, keepdims=True)
    found = distance * lax.rsqrt(variance + node.get("epsilon", 1e-5)) * scale
    return found if bias is None else found + bias


def _matmul(node: Node, a: Any, b: Any) -> Any:
    return matmul(jnp.asarray(a), jnp.asarray(b))


def _gemm(node: Node, a: Any, b: Any, c: Any = None) -> Any:
    a = a.T if node.get("transA", 0) else a
    b = b.T if node.get("transB", 0) else b
    found = node.get("alpha", 1.0) * jnp.matmul(a, b)
    return found if c is None else found + node.get("beta", 1.0) * c


def _einsum(node: Node, *inputs: Any) -> Any:
    return jnp.einsum(node.attributes["equation"], *inputs)


def _space_to_depth(node: Node, x: Any) -> Any:
    size, (batch, channels, height, width) = node.get("blocksize", 1), x.shape
    parts = x.reshape(batch, channels, height // size, size, width // size, size)
    return parts.transpose(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // size, width // size)


#: Name -> operator on inputs in the file's layout.
DECLARED: dict[str, Callable[..., Any]] = {
    "Einsum": _einsum,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "Pad": _pad,
    "ReduceL2": _reduced(lambda x, **k: jnp.sqrt(jnp.sum(x * x, **k))),
    "ReduceMax": _reduced(jnp.max),
    "ReduceMean": _reduced(jnp.mean),
    "ReduceMin": _reduced(jnp.min),
    "ReduceSum": _reduced(jnp.sum),
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
