"""Resize: one matrix an axis, so that windows of the image stay windows."""

import math
from typing import Any

import jax
import numpy as np

from jaxseg_xai.models.onnx.node import Node
from jaxseg_xai.ops.interpolation import (
    along_axis,
    cubic_weight,
    linear_matrix,
    repeat_pixels,
)
from jaxseg_xai.ops.layers import upsample_2x_linear


def resize(node: Node, x: jax.Array, roi: Any = None, scales: Any = None, sizes: Any = None) -> Any:
    """Resize 17 to 20 of [B, *S, C]."""
    del roi  # only "tf_crop_and_resize" reads it
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.unsupported("keep_aspect_ratio_policy")
    rank = x.ndim
    shape = (x.shape[0], x.shape[-1], *x.shape[1:-1])
    axes = [axis % rank for axis in node.get("axes", range(rank))]
    given = sizes if sizes is not None and np.size(sizes) else scales
    if not isinstance(given, np.ndarray):
        raise node.unsupported("a size that depends on the values of the image")
    for axis, number in zip(axes, given.tolist(), strict=True):
        size = shape[axis]
        wanted = number if given is sizes else math.floor(size * number)
        scale = wanted / size if given is sizes else number
        if wanted == size and scale == 1:
            continue
        if axis < 2:
            raise node.unsupported("another number of images or channels")
        x = _along(x, axis - 1, node, wanted, scale)
    return x


def _along(x: jax.Array, axis: int, node: Node, wanted: int, scale: float) -> jax.Array:
    size = x.shape[axis]
    matrix = matrix_of(node, size, wanted, scale)
    nearest = matrix.argmax(1)
    times = wanted // size
    if (matrix == (np.arange(size) == nearest[:, None])).all():
        if wanted == times * size and (nearest == np.arange(wanted) // times).all():
            return repeat_pixels(x, axis, times)
        steps = set(np.diff(nearest).tolist())
        if len(steps) == 1 and (step := steps.pop()) > 0:
            end = int(nearest[-1]) + 1
            return jax.lax.slice_in_dim(x, int(nearest[0]), end, stride=step, axis=axis)
    for corners in (False, True):
        if wanted == 2 * size and np.allclose(matrix, linear_matrix(size, wanted, corners)):
            return upsample_2x_linear(x, axis, align_corners=corners)
    return along_axis(x, matrix, axis)


def matrix_of(node: Node, size: int, wanted: int, scale: float) -> np.ndarray:
    """What every output pixel takes of every input pixel, [wanted, size]."""
    mode = node.get("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        raise node.unsupported(f"mode {mode}")
    position = _positions(node, size, wanted, scale)
    if mode == "nearest":
        return np.eye(size)[np.clip(_nearest(node, position), 0, size - 1)]
    # Where a smaller image is asked for, antialiasing widens the kernel by as much.
    narrow = min(1.0, scale) if node.get("antialias", 0) else 1.0
    radius = {"linear": 1, "cubic": 2}[mode]
    reach = math.ceil(radius / narrow)
    taps = np.floor(position)[:, None].astype(int) + np.arange(-reach, reach + 1)
    distance = np.abs(position[:, None] - taps) * narrow
    a = node.get("cubic_coeff_a", -0.75)
    share = np.maximum(0, 1 - distance) if mode == "linear" else cubic_weight(distance, a)
    if node.get("exclude_outside", 0):
        share = np.where((taps < 0) | (taps >= size), 0, share)
    if narrow < 1 or node.get("exclude_outside", 0):
        share = share / share.sum(1, keepdims=True)
    matrix = np.zeros((wanted, size))
    np.add.at(matrix, (np.arange(wanted)[:, None], np.clip(taps, 0, size - 1)), share)
    return matrix


def _positions(node: Node, size: int, wanted: int, scale: float) -> np.ndarray:
    """Where in the input the output pixels lie."""
    mode = node.get("coordinate_transformation_mode", "half_pixel")
    at = np.arange(wanted, dtype=np.float64)
    match mode:
        case "half_pixel":
            return (at + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (at + 0.5) / scale - 0.5 if wanted > 1 else np.zeros(1)
        case "half_pixel_symmetric":
            adjusted = wanted / (scale * size)
            return size / 2 * (1 - adjusted) + (at + 0.5) / scale - 0.5
        case "align_corners":
            return at * (size - 1) / (wanted - 1) if wanted > 1 else np.zeros(1)
        case "asymmetric":
            return at / scale
    raise node.unsupported(f"coordinate_transformation_mode {mode}")


def _nearest(node: Node, position: np.ndarray) -> np.ndarray:
    match mode := node.get("nearest_mode", "round_prefer_floor"):
        case "round_prefer_floor":
            found = np.ceil(position - 0.5)
        case "round_prefer_ceil":
            found = np.floor(position + 0.5)
        case "floor":
            found = np.floor(position)
        case "ceil":
            found = np.ceil(position)
        case _:
            raise node.unsupported(f"nearest_mode {mode}")
    return found.astype(int)
