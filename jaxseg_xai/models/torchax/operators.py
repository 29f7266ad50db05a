"""Operators of PyTorch for which torchax has no form in JAX, or a slow one."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch.nn import functional as F

from jaxseg_xai.models.norms import normalise_groups
from jaxseg_xai.models.torchax import pooling, products, resizing, sampling
from jaxseg_xai.ops.layers import conv_general_dilated


def convolution(
    input: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> jax.Array:
    """`torch.ops.aten.convolution`, by the layers that have a quick gradient on CPUs."""
    rank = weight.ndim - 2
    stride, padding, dilation, more = (
        list(value) * (rank if len(value) == 1 else 1)
        for value in (stride, padding, dilation, output_padding)
    )
    images = input if input.ndim == rank + 2 else input[None]
    size = weight.shape[2:]
    if transposed:
        # [in, out / groups, *k], applied as a gradient: groups apart, flipped.
        weight = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        weight = jnp.flip(weight.reshape(-1, *weight.shape[2:]), tuple(range(2, rank + 2)))
        reach = [(k - 1) * d - p for k, d, p in zip(size, dilation, padding, strict=True)]
        pads = [(r, r + extra) for r, extra in zip(reach, more, strict=True)]
        steps, apart = [1] * rank, stride
    else:
        pads, steps, apart = [(p, p) for p in padding], stride, [1] * rank
    space = "DHW"[3 - rank :]
    found = conv_general_dilated(
        jnp.moveaxis(images, 1, -1),
        jnp.moveaxis(weight, (0, 1), (-1, -2)),
        steps,
        pads,
        apart,
        dilation,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        feature_group_count=groups,
    )
    if bias is not None:
        found = found + bias
    found = jnp.moveaxis(found, -1, 1)
    return found if input.ndim == rank + 2 else found[0]


def instance_norm(
    input: jax.Array,
    running_mean: jax.Array | None = None,
    running_var: jax.Array | None = None,
    weight: jax.Array | None = None,
    bias: jax.Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> jax.Array:
    """`torch.nn.functional.instance_norm`, which torchax joins with the batch."""
    del momentum
    if use_input_stats:
        return _normalised(input, input.shape[1], weight, bias, eps)
    mean, variance = (_of_channels(x, input) for x in (running_mean, running_var))
    return _scaled((input - mean) * jax.lax.rsqrt(variance + eps), weight, bias)


def group_norm(
    input: jax.Array,
    num_groups: int,
    weight: jax.Array | None = None,
    bias: jax.Array | None = None,
    eps: float = 1e-5,
) -> jax.Array:
    """`torch.nn.functional.group_norm`."""
    return _normalised(input, num_groups, weight, bias, eps)


def _normalised(
    x: jax.Array, num_groups: int, weight: jax.Array | None, bias: jax.Array | None, eps: float
) -> jax.Array:
    found = normalise_groups(jnp.moveaxis(x, 1, -1), num_groups, eps)
    return _scaled(jnp.moveaxis(found, -1, 1).astype(x.dtype), weight, bias)


def _of_channels(values: Any, like: jax.Array) -> jax.Array:
    return jnp.reshape(values, (1, -1, *[1] * (like.ndim - 2)))


def _scaled(x: jax.Array, weight: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    x = x if weight is None else x * _of_channels(weight, x)
    return x if bias is None else x + _of_channels(bias, x)


def _per_rank(function: Callable[..., Any], name: str, *suffixes: str) -> dict[Any, Any]:
    """`name1d`, `name2d` and `name3d` of torch.nn.functional."""
    return {
        getattr(F, name.format(rank) + suffix): functools.partial(function, rank)
        for rank in (1, 2, 3)
        for suffix in suffixes
    }


def _with_indices(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: function(*args, **{"return_indices": True} | kwargs)


#: Operator of PyTorch -> the function of arrays.
OPERATORS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.convolution: convolution,
    F.interpolate: resizing.interpolate,
    F.instance_norm: instance_norm,
    F.group_norm: group_norm,
    **_per_rank(pooling.max_pool, "max_pool{}d", ""),
    **_per_rank(_with_indices(pooling.max_pool), "max_pool{}d", "_with_indices"),
    **_per_rank(pooling.max_unpool, "max_unpool{}d", ""),
    **_per_rank(pooling.adaptive_max_pool, "adaptive_max_pool{}d", "", "_with_indices"),
    **_per_rank(resizing.adaptive_average, "adaptive_avg_pool{}d", ""),
    **dict.fromkeys(
        (
            torch.matmul,
            torch.bmm,
            torch.Tensor.matmul,
            torch.Tensor.__matmul__,
            torch.Tensor.bmm,
            torch.ops.aten.matmul,
            torch.ops.aten.bmm,
        ),
        products.matmul,
    ),
    F.scaled_dot_product_attention: products.attention,
    torch.ops.aten.scaled_dot_product_attention: products.attention,
    F.affine_grid: sampling.affine_grid,
    F.grid_sample: sampling.grid_sample,
}
