"""PyTorch's resizing, one axis at a time: `jaxseg_xai.incremental` reads each as an interpolation.

torchax gathers along both axes at once, which no window passes.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.ops.interpolation import along_axis, cubic_weight, repeat_pixels
from jaxseg_xai.ops.layers import upsample_2x_linear

_LINEAR = ("linear", "bilinear", "trilinear")


def interpolate(
    input: jax.Array,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> jax.Array:
    """`torch.nn.functional.interpolate` of [B, C, *S].

    Raises:
      ModelError: a mode that PyTorch does not have.
    """
    shape = input.shape[2:]
    factors: Sequence[float | None] = [None] * len(shape)
    if size is not None:
        wanted = [int(n) for n in _of_each(size, len(shape))]
    else:
        given = [float(factor) for factor in _of_each(scale_factor, len(shape))]
        wanted = [math.floor(n * factor) for n, factor in zip(shape, given, strict=True)]
        factors = factors if recompute_scale_factor else given
    if mode == "area":
        return adaptive_average(len(shape), input, wanted)
    for axis, (n, more, factor) in enumerate(zip(shape, wanted, factors, strict=True), 2):
        if n != more or factor not in (None, 1.0):
            input = _resize(input, axis, more, factor, mode, bool(align_corners), antialias)
    return input


def adaptive_average(rank: int, x: jax.Array, output_size: Any) -> jax.Array:
    """`torch.nn.functional.adaptive_avg_pool2d` and its like, of the last `rank` axes."""
    for axis, wanted in enumerate(_of_each(output_size, rank), x.ndim - rank):
        if wanted == 1:
            x = jnp.mean(x, axis, keepdims=True)
        elif wanted is not None and wanted != x.shape[axis]:
            matrix = np.zeros((wanted, x.shape[axis]))
            for row, (start, end) in zip(matrix, parts(x.shape[axis], wanted), strict=True):
                row[start:end] = 1 / (end - start)
            x = along_axis(x, matrix, axis)
    return x


def parts(size: int, number: int) -> list[tuple[int, int]]:
    """(start, end) of the parts of an axis that adaptive pooling makes."""
    return [(i * size // number, -(-(i + 1) * size // number)) for i in range(number)]


def _of_each(value: Any, rank: int) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] * rank


def _resize(
    x: jax.Array,
    axis: int,
    wanted: int,
    factor: float | None,
    mode: str,
    align_corners: bool,
    antialias: bool,
) -> jax.Array:
    size = x.shape[axis]
    step = 1 / factor if factor else size / wanted
    if mode in ("nearest", "nearest-exact"):
        if step * wanted == size and wanted % size == 0:
            return repeat_pixels(x, axis, wanted // size)
        # As PyTorch rounds.
        middle = np.float32(0.5 if mode == "nearest-exact" else 0)
        picked = ((np.arange(wanted, dtype=np.float32) + middle) * np.float32(step)).astype(int)
        return jnp.take(x, np.minimum(picked, size - 1), axis=axis, mode="clip")
    if mode in _LINEAR and not antialias and wanted == 2 * size and step == 0.5:
        return upsample_2x_linear(x, axis, align_corners=align_corners)
    if align_corners:
        step = (size - 1) / (wanted - 1) if wanted > 1 else 0.0
    return along_axis(x, _matrix(size, wanted, step, mode, align_corners, antialias), axis)


def _matrix(
    size: int, wanted: int, step: float, mode: str, align_corners: bool, antialias: bool
) -> np.ndarray:
    """Interpolation matrix [wanted, size]."""
    if mode not in (*_LINEAR, "bicubic"):
        raise ModelError(f"interpolate has no mode {mode!r}; use one of PyTorch's")
    linear = mode in _LINEAR
    pixel = np.arange(size)
    middle = step * (np.arange(wanted)[:, None] + 0.5) - 0.5
    if antialias:
        wide = max(step, 1.0)
        reach = (1 if linear else 2) * wide
        inside = (pixel >= np.trunc(np.maximum(middle - reach + 1, 0))) & (
            pixel < np.trunc(np.minimum(middle + reach + 1, size))
        )
        distance = np.abs(pixel - middle) / wide
        weight = np.where(inside, _hat(distance) if linear else cubic_weight(distance, -0.5), 0.0)
        return weight / weight.sum(axis=1, keepdims=True)
    if align_corners:
        middle = step * np.arange(wanted)[:, None]
    if linear:
        return _hat(np.abs(pixel - np.clip(middle, 0.0, size - 1.0)))
    matrix = np.zeros((wanted, size))
    for tap in range(-1, 3):
        at = np.floor(middle) + tap
        place = np.clip(at, 0, size - 1).astype(int)
        np.add.at(
            matrix, (np.arange(wanted), place[:, 0]), cubic_weight(np.abs(at - middle), -0.75)[:, 0]
        )
    return matrix


def _hat(distance: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1.0 - distance)
