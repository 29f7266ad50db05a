"""Operators on images [B, *S, C]: convolutions, pooling, norms and padding."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.models.norms import normalise_groups
from jaxseg_xai.models.onnx.node import Node
from jaxseg_xai.models.onnx.resize import resize
from jaxseg_xai.ops import layers

Pads = tuple[tuple[int, int], ...]


def conv(node: Node, x: jax.Array, weight: jax.Array, bias: Any = None) -> jax.Array:
    """Conv: a weight [O, C / group, *k]."""
    kernel = jnp.moveaxis(weight, (1, 0), (-2, -1))
    rank = x.ndim - 2
    strides = tuple(node.get("strides", (1,) * rank))
    dilations = tuple(node.get("dilations", (1,) * rank))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel.shape, dilations, strict=False)]
    found = layers.conv_general_dilated(
        x,
        kernel,
        strides,
        _pads(node, x, extent, strides),
        rhs_dilation=dilations,
        dimension_numbers=_layout(rank),
        feature_group_count=node.get("group", 1),
    )
    return found if bias is None else found + bias


def conv_transpose(node: Node, x: jax.Array, weight: jax.Array, bias: Any = None) -> jax.Array:
    """ConvTranspose: a weight [C, O / group, *k]."""
    rank, groups = x.ndim - 2, node.get("group", 1)
    strides = tuple(node.get("strides", (1,) * rank))
    dilations = tuple(node.get("dilations", (1,) * rank))
    more = tuple(node.get("output_padding", (0,) * rank))
    # Of a group's weight [C / group, O / group, *k] one [*k, C / group, O], flipped.
    parts = weight.reshape(groups, -1, *weight.shape[1:])
    kernel = jnp.moveaxis(parts, (1, 0, 2), (-3, -2, -1))
    kernel = kernel.reshape(*kernel.shape[:-2], -1)
    kernel = jnp.flip(kernel, tuple(range(rank)))
    reach = [(k - 1) * d for k, d in zip(kernel.shape, dilations, strict=False)]
    full = [
        (n - 1) * s + r + 1 + m
        for n, s, r, m in zip(x.shape[1:-1], strides, reach, more, strict=True)
    ]
    pads = _transposed_pads(node, x.shape[1:-1], strides, full)
    around = [(r - lo, r - hi + m) for r, (lo, hi), m in zip(reach, pads, more, strict=True)]
    found = layers.conv_general_dilated(
        x,
        kernel,
        (1,) * rank,
        around,
        lhs_dilation=strides,
        rhs_dilation=dilations,
        dimension_numbers=_layout(rank),
        feature_group_count=groups,
    )
    return found if bias is None else found + bias


def _transposed_pads(
    node: Node, size: Sequence[int], strides: Sequence[int], full: Sequence[int]
) -> Pads:
    """What is cut off an output of the full size."""
    wanted, how = node.get("output_shape", None), node.get("auto_pad", "NOTSET")
    if how.startswith("SAME") and wanted is None:
        wanted = [n * s for n, s in zip(size, strides, strict=True)]
    if wanted is None:
        return _pairs(node.get("pads", (0,) * 2 * len(size)))
    spare = [n - w for n, w in zip(full, wanted, strict=True)]
    if how == "SAME_UPPER":
        return tuple((n // 2, n - n // 2) for n in spare)
    return tuple((n - n // 2, n // 2) for n in spare)


class Windows(NamedTuple):
    """Of a pooling along one axis, see `layers.window_taps`."""

    size: int
    stride: int
    padding: tuple[int, int]
    dilation: int

    def taps(self, x: jax.Array, axis: int, outside: float) -> list[jax.Array]:
        """Their first, second, ... pixels."""
        return layers.window_taps(x, axis, *self, outside)

    def num_inside(self, size: int, around: tuple[int, int]) -> np.ndarray:
        """How many pixels of each lie within an axis and what counts around it."""
        reach = (self.size - 1) * self.dilation + 1
        steps = (size + sum(self.padding) - reach) // self.stride + 1
        first = np.arange(steps)[:, None] * self.stride - self.padding[0]
        at = first + self.dilation * np.arange(self.size)
        return ((at >= -around[0]) & (at < size + around[1])).sum(1)


def max_pool(node: Node, x: jax.Array) -> jax.Array:
    """MaxPool, without its second output."""
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.unsupported("the second output (indices)")
    windows, _ = _windows(node, x)
    for axis in range(x.ndim - 2, 0, -1):
        taps = windows[axis - 1].taps(x, axis, -jnp.inf)
        x = functools.reduce(layers.first_larger, taps)
    return x


def average_pool(node: Node, x: jax.Array) -> jax.Array:
    """AveragePool."""
    windows, pads = _windows(node, x)
    for axis in range(x.ndim - 2, 0, -1):
        around = pads[axis - 1] if node.get("count_include_pad", 0) else (0, 0)
        count = windows[axis - 1].num_inside(x.shape[axis], around)
        total = functools.reduce(jnp.add, windows[axis - 1].taps(x, axis, 0.0))
        x = total / count.reshape(-1, *(1,) * (x.ndim - 1 - axis)).astype(x.dtype)
    return x


def _windows(node: Node, x: jax.Array) -> tuple[list[Windows], Pads]:
    """Of every axis, and what the file pads; rounding up pads more."""
    kernel = node.attributes["kernel_shape"]
    strides = node.get("strides", (1,) * len(kernel))
    dilations = node.get("dilations", (1,) * len(kernel))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(node, x, extent, strides)
    found = []
    for i, (lo, hi) in enumerate(pads):
        n, stride, more = x.shape[i + 1], strides[i], 0
        if node.get("ceil_mode", 0):
            more = -(n + lo + hi - extent[i]) % stride
            if (n + lo + hi + more - extent[i]) >= n + lo:  # a window in the padding alone
                more = 0
        found.append(Windows(kernel[i], stride, (lo, hi + more), dilations[i]))
    return found, pads


def global_pool(join: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """GlobalAveragePool and GlobalMaxPool."""

    def pool(node: Node, x: jax.Array) -> jax.Array:
        del node
        for axis in range(1, x.ndim - 1):
            x = join(x, axis=axis, keepdims=True)
        return x

    return pool


def batch_norm(node: Node, x: jax.Array, scale: Any, bias: Any, mean: Any, var: Any) -> jax.Array:
    """BatchNormalization, with the running statistics."""
    if node.get("training_mode", 0):
        raise node.unsupported("training mode; export after model.eval()")
    factor = scale / jnp.sqrt(var + node.get("epsilon", 1e-5))
    return (x - mean) * factor + bias


def instance_norm(node: Node, x: jax.Array, scale: Any, bias: Any) -> jax.Array:
    """InstanceNormalization."""
    return _normalised(node, x, x.shape[-1]) * scale + bias


def group_norm(node: Node, x: jax.Array, scale: Any, bias: Any) -> jax.Array:
    """GroupNormalization 18, whose scale and bias are a group's."""
    groups = node.get("num_groups", 1)
    repeat = x.shape[-1] // groups
    scale, bias = jnp.repeat(scale, repeat), jnp.repeat(bias, repeat)
    return _normalised(node, x, groups) * scale + bias


def _normalised(node: Node, x: jax.Array, num_groups: int) -> jax.Array:
    return normalise_groups(x, num_groups, node.get("epsilon", 1e-5)).astype(x.dtype)


def depth_to_space(node: Node, x: jax.Array) -> jax.Array:
    """DepthToSpace of images."""
    size, (batch, height, width, channels) = node.get("blocksize", 1), x.shape
    rest = channels // size**2
    if node.get("mode", "DCR") == "DCR":
        parts = x.reshape(batch, height, width, size, size, rest)
    else:
        parts = jnp.moveaxis(x.reshape(batch, height, width, rest, size, size), 3, -1)
    parts = parts.transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(batch, height * size, width * size, rest)


def _layout(rank: int) -> tuple[str, str, str]:
    space = "DHW"[3 - rank :]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def _pairs(pads: Sequence[int]) -> Pads:
    half = len(pads) // 2
    return tuple(zip(pads[:half], pads[half:], strict=True))


def _pads(node: Node, x: Any, extent: Sequence[int], strides: Sequence[int]) -> Pads:
    """What is put around, by `pads` or `auto_pad`."""
    how, rank = node.get("auto_pad", "NOTSET"), x.ndim - 2
    if not how.startswith("SAME"):
        return _pairs(node.get("pads", (0,) * 2 * rank))
    pads = []
    for n, k, s in zip(x.shape[1:-1], extent, strides, strict=True):
        total = max(0, (math.ceil(n / s) - 1) * s + k - n)
        small, large = total // 2, total - total // 2
        pads.append((small, large) if how == "SAME_UPPER" else (large, small))
    return tuple(pads)


#: Name -> operator on a first input [B, *S, C]; the others are as the file has them.
OPERATORS: dict[str, Callable[..., Any]] = {
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "GlobalAveragePool": global_pool(jnp.mean),
    "GlobalMaxPool": global_pool(jnp.max),
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "MaxPool": max_pool,
    "Resize": resize,
}
