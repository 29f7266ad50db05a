"""PyTorch's max-pooling and its inverse, as selections between slices.

`jaxseg_xai.incremental` has windows through them, and they have a cheap gradient.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.models.torchax.resizing import interpolate, parts
from jaxseg_xai.ops.layers import first_larger, window_taps


def max_pool(
    rank: int,
    input: jax.Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """`torch.nn.functional.max_pool2d` and its like: [B, C, *S] -> [B, C, *S'].

    Args:
      rank: number of axes S.
      input: images.
      kernel_size: see PyTorch, as the others.
      stride: see PyTorch.
      padding: see PyTorch.
      dilation: see PyTorch.
      ceil_mode: see PyTorch.
      return_indices: also return where the maxima are, as numbers of pixels.
    """
    sizes, steps = _each(kernel_size, rank), _each(stride or kernel_size, rank)
    low, spread = _each(padding, rank), _each(dilation, rank)
    first = input.ndim - rank
    space = input.shape[first:]
    places: Any = np.arange(math.prod(space)).reshape((1,) * first + space) if return_indices else 0
    for i in reversed(range(rank)):
        extent = (sizes[i] - 1) * spread[i] + 1
        room = space[i] + 2 * low[i] - extent
        last = -(-room // steps[i]) if ceil_mode else room // steps[i]
        if last * steps[i] >= space[i] + low[i]:  # a window that would begin after the image
            last -= 1
        high = last * steps[i] + extent - space[i] - low[i]
        cut = functools.partial(
            window_taps,
            axis=first + i,
            size=sizes[i],
            stride=steps[i],
            padding=(low[i], high),
            dilation=spread[i],
        )
        taps = cut(input)
        if return_indices:
            numbers = cut(jnp.asarray(places, jnp.int32), outside=0)
            input, places = functools.reduce(_larger, zip(taps, numbers, strict=True))
        else:
            input = functools.reduce(first_larger, taps)
    if return_indices:
        return input, jnp.broadcast_to(places, input.shape)
    return input


def _larger(a: Any, b: Any) -> Any:
    """The larger value and its place; the place before of equal ones, as rows are read."""
    (x, at), (y, there) = a, b
    keep = (x > y) | ((x == y) & (at < there))
    return jnp.where(keep, x, y), jnp.where(keep, at, there)


def adaptive_max_pool(
    rank: int, input: jax.Array, output_size: Any, return_indices: bool = False
) -> jax.Array:
    """`torch.nn.functional.adaptive_max_pool2d` and its like.

    Raises:
      ModelError: indices are asked for.
    """
    if return_indices:
        raise ModelError("adaptive max-pooling has no form in JAX with indices; leave them out")
    for axis, wanted in enumerate(_each(output_size, rank), input.ndim - rank):
        if wanted is not None and wanted != input.shape[axis]:
            pieces = [
                jnp.max(jax.lax.slice_in_dim(input, start, end, axis=axis), axis, keepdims=True)
                for start, end in parts(input.shape[axis], wanted)
            ]
            input = jnp.concatenate(pieces, axis)
    return input


def max_unpool(
    rank: int,
    input: jax.Array,
    indices: jax.Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> jax.Array:
    """`torch.nn.functional.max_unpool2d` and its like: values to where the maxima were, else 0."""
    sizes, steps = _each(kernel_size, rank), _each(stride or kernel_size, rank)
    low, space = _each(padding, rank), input.shape[-rank:]
    given = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(space, steps, low, sizes, strict=True)]
    wanted = tuple(given if output_size is None else list(output_size)[-rank:])
    flat = math.prod(wanted)
    if sizes == steps and not any(low):
        # Every pixel belongs to one window: it holds that window's value, or nothing.
        whole = [n * s for n, s in zip(space, steps, strict=True)]
        pixel = np.full(whole, -1, np.int32)
        shared = tuple(slice(min(a, b)) for a, b in zip(whole, wanted, strict=True))
        pixel[shared] = np.arange(flat, dtype=np.int32).reshape(wanted)[shared]
        values, places = (interpolate(x, scale_factor=steps) for x in (input, indices))
        found = jnp.where(places == pixel, values, 0)
        after = [(0, 0, 0)] * (found.ndim - rank)
        after += [(0, b - a, 0) for a, b in zip(whole, wanted, strict=True)]
        return jax.lax.pad(found, jnp.zeros((), found.dtype), after)
    lead = input.shape[:-rank]
    rows = input.reshape(-1, math.prod(space))
    at = indices.reshape(rows.shape)
    empty = jnp.zeros((rows.shape[0], flat), input.dtype)
    return jax.vmap(lambda e, i, x: e.at[i].set(x))(empty, at, rows).reshape(*lead, *wanted)


def _each(value: Any, rank: int) -> list[Any]:
    if not isinstance(value, Sequence):
        return [value] * rank
    return list(value) * (rank if len(value) == 1 else 1)
