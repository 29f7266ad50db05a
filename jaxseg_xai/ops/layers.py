"""Layers whose input gradients are cheap: the explainers differentiate with respect to images.

XLA's transpose of a convolution is slow inside loops on CPU, and the gradients of `reduce_window`
and of gathers are slow everywhere; these forms compute the same values without either.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.ops.convolution import convolve, cropped, grouped, grouped_pays, plain, textbook
from jaxseg_xai.ops.interpolation import along_axis, linear_matrix
from jaxseg_xai.ops.transposed import transposed, transposed_pays


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    **kwargs: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` whose input gradient is an ordinary forward convolution.

    Made to be passed to `nnx.Conv(conv_general_dilated=...)`. Strided, input-dilated and grouped
    convolutions go to `lax` unchanged, but on CPU for those of small groups and for input-dilated
    (transposed) ones at which it is slow. Inside loops on CPU JAX's own transpose rule is much
    slower than outside (jax issue 12868); an ordinary convolution is not. Reverse mode only.

    Args:
      lhs: images or volumes [B, *S, C].
      rhs: kernel [*k, C, O].
      window_strides: a stride for every axis of S.
      padding: "SAME", "VALID" or (low, high) of every axis, ((top, bottom), (left, right)).
      lhs_dilation: input dilations, or None.
      rhs_dilation: kernel dilations, or None.
      **kwargs: the further arguments of `lax.conv_general_dilated`.

    Returns:
      [B, *S', O].
    """
    rank = lhs.ndim - 2
    dilation = tuple(rhs_dilation or (1,) * rank)
    groups = kwargs.get("feature_group_count", 1)
    spread = tuple(lhs_dilation or (1,) * rank)
    given = lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation
    extent = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:rank], dilation, strict=True)]
    if isinstance(padding, str):
        if {*spread} != {1}:
            return lax.conv_general_dilated(*given, **kwargs)
        padding = lax.padtype_to_pads(lhs.shape[1:-1], extent, window_strides, padding)
    sizes = zip(lhs.shape[1:-1], spread, extent, padding, strict=True)
    if not lhs.size or any((n - 1) * s + 1 + sum(p) < wide for n, s, wide, p in sizes):
        return lax.conv_general_dilated(*given, **kwargs)  # of nothing
    if {*spread} == {1} and not textbook.value:
        lhs, padding = cropped(lhs, padding)
    usual = kwargs.get("preferred_element_type") is None and rank in (2, 3)
    plain = usual and {*window_strides} == {1} and groups == 1
    apart = usual and {*spread} == {1} and grouped_pays(lhs, rhs, groups)
    rising = plain and {*spread} != {1} and transposed_pays(lhs, rhs, spread, padding, dilation)
    plain = plain and ({*spread} == {1} or rising)
    if not (plain or apart):
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, **kwargs
        )
    if apart:
        return grouped(lhs, rhs, groups, window_strides, padding, dilation)
    # The backward pass is traced later, when the default may be another.
    default = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    precision = kwargs.get("precision") or default
    ends = tuple((low, high) for low, high in padding)
    if rising:
        ones = (1,) * rank
        return transposed(
            lhs, rhs, spread, ends, lambda *of: _stride_one_conv(*of, ones, precision)
        )
    return _stride_one_conv(lhs, rhs, ends, dilation, precision)


_stride_one_conv = jax.custom_vjp(convolve, nondiff_argnums=(2, 3, 4))


def _conv_fwd(x, kernel, padding, dilation, precision):
    return convolve(x, kernel, padding, dilation, precision), (x, kernel)


def _conv_bwd(padding, dilation, precision, residuals, cotangent):
    x, kernel = residuals
    # Input pixel i meets tap t of the kernel in output pixel i - t + lo, so its gradient correlates
    # the cotangent with the flipped kernel, padded by the kernel's reach less the forward padding.
    rank = len(padding)
    flipped = jnp.flip(kernel, tuple(range(rank))).swapaxes(-2, -1)
    reach = [(k - 1) * d for k, d in zip(kernel.shape[:rank], dilation, strict=True)]
    back = tuple((r - lo, r - hi) for r, (lo, hi) in zip(reach, padding, strict=True))
    grad_x = convolve(cotangent, flipped, back, dilation, precision)
    # XLA removes this where the weights are frozen, as they are in every explainer.
    ones = (1,) * rank
    _, of_kernel = jax.vjp(lambda k: plain(x, k, ones, padding, dilation, precision), kernel)
    return grad_x, *of_kernel(cotangent)


_stride_one_conv.defvjp(_conv_fwd, _conv_bwd)


def max_pool_2(x: jax.Array) -> jax.Array:
    """Max-pooling by two along every axis: [B, *S, C] -> [B, *S/2, C], the last of odd S unread.

    Selections between strided slices: a cheaper gradient than that of `reduce_window`, and like
    there the first of several equal maxima gets it.
    """
    return max_pool_2_choices(x)[0]


def max_pool_2_choices(x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """`max_pool_2`, and what `max_unpool_2` needs: which of two is the maximum, last axis first."""
    choices = []
    for axis in range(x.ndim - 2, 0, -1):
        end = x.shape[axis] // 2 * 2
        even, odd = (lax.slice_in_dim(x, i, end, stride=2, axis=axis) for i in (0, 1))
        choices.append(even >= odd)
        x = jnp.where(choices[-1], even, odd)
    return x, choices


def max_unpool_2(x: jax.Array, choices: Sequence[jax.Array]) -> jax.Array:
    """Every value to where the maximum was, zeros elsewhere: [B, *S, C] -> [B, *2S, C].

    `torch.nn.functional.max_unpool2d` of a pooling whose sides were even.
    """
    for axis, first in enumerate(reversed(choices), 1):
        pair = (jnp.where(first, x, 0), jnp.where(first, 0, x))
        shape = [2 * n if d == axis else n for d, n in enumerate(x.shape)]
        x = jnp.stack(pair, axis + 1).reshape(shape)
    return x


def pad_to(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Zeros around [B, *S, C] up to [B, *size, C]; an odd number has one more at the end."""
    missing = [wanted - n for n, wanted in zip(x.shape[1:-1], size, strict=True)]
    if not any(missing):
        return x
    return jnp.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)])


def max_pool(x: jax.Array, size: int, *, stride: int, padding: int = 0) -> jax.Array:
    """Max-pooling over windows that may overlap, along every axis, as in PyTorch.

    Made and differentiated as `max_pool_2`.

    Args:
      x: images or volumes [B, *S, C].
      size: of a window.
      stride: from one window to the next.
      padding: pixels around, which are never the largest; at most half a window.

    Returns:
      [B, (S + 2 padding - size) // stride + 1, C].
    """
    for axis in range(x.ndim - 2, 0, -1):
        taps = window_taps(x, axis, size, stride, (padding, padding))
        x = functools.reduce(first_larger, taps)
    return x


def window_taps(
    x: jax.Array,
    axis: int,
    size: int,
    stride: int,
    padding: tuple[int, int],
    dilation: int = 1,
    outside: float = -jnp.inf,
) -> list[jax.Array]:
    """The first, second, ... pixel of every window along an axis.

    Args:
      x: any array.
      axis: along which windows lie.
      size: of a window.
      stride: from one window to the next.
      padding: pixels (before, after) the axis.
      dilation: from one pixel of a window to the next.
      outside: value of the padding.
    """
    around = [(*padding, 0) if d == axis else (0, 0, 0) for d in range(x.ndim)]
    padded = lax.pad(x, jnp.full((), outside, x.dtype), around)
    last = (padded.shape[axis] - (size - 1) * dilation - 1) // stride * stride
    return [
        lax.slice_in_dim(padded, i, last + i + 1, stride=stride, axis=axis)
        for i in range(0, size * dilation, dilation)
    ]


def first_larger(a: jax.Array, b: jax.Array) -> jax.Array:
    """The larger of two, which alone gets the gradient: the first of equal ones."""
    return jnp.where(a >= b, a, b)


def upsample_2x_nearest(x: jax.Array) -> jax.Array:
    """Nearest-neighbour up-sampling by two: [B, H, W, C] -> [B, 2H, 2W, C]."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def upsample_2x_bilinear(x: jax.Array) -> jax.Array:
    """Bilinear up-sampling by two with aligned corners: [B, H, W, C] -> [B, 2H, 2W, C].

    `torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)`. Reverse mode only.
    """
    if textbook.value:
        rows, columns = (linear_matrix(n, 2 * n, True).astype(x.dtype) for n in x.shape[1:3])
        return jnp.einsum("ph,bhwc,qw->bpqc", rows, x, columns)
    return _rise(_rise(x, 1, True), 2, True)


def upsample_2x_linear(x: jax.Array, axis: int, *, align_corners: bool = False) -> jax.Array:
    """Linear up-sampling of one axis by two, of any array. Reverse mode only."""
    if textbook.value:
        size = x.shape[axis]
        return along_axis(x, linear_matrix(size, 2 * size, align_corners), axis)
    return _rise(x, axis, align_corners)


def _shares(
    size: int, axis: int, align_corners: bool, like: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of its matrix: what output 2i takes of input i - 1, and output 2i + 1 of input i + 1."""
    if align_corners:
        before = np.arange(size) / (2 * size - 1)
    else:
        before = np.where(np.arange(size) > 0, 0.25, 0.0)
    before = before.reshape(-1, *[1] * (like.ndim - 1 - axis))
    return jnp.asarray(before, like.dtype), jnp.asarray(before[::-1], like.dtype)


def shifted(x: jax.Array, by: int, axis: int) -> jax.Array:
    """x[i + by] along an axis; 0 past the ends."""
    return lax.pad(
        x, jnp.zeros((), x.dtype), [(-by * (d == axis), by * (d == axis), 0) for d in range(x.ndim)]
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _rise(x: jax.Array, axis: int, align_corners: bool) -> jax.Array:
    """Up-sampling of one axis, without its zeros."""
    before, after = _shares(x.shape[axis], axis, align_corners, x)
    pair = (
        (1 - before) * x + before * shifted(x, -1, axis),
        (1 - after) * x + after * shifted(x, 1, axis),
    )
    return jnp.stack(pair, axis + 1).reshape(
        *x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :]
    )


def _rise_fwd(x: jax.Array, axis: int, align_corners: bool) -> tuple[jax.Array, None]:
    return _rise(x, axis, align_corners), None


def _rise_bwd(axis: int, align_corners: bool, _: None, cotangent: jax.Array) -> tuple[jax.Array]:
    size = cotangent.shape[axis] // 2
    before, after = _shares(size, axis, align_corners, cotangent)
    even, odd = (lax.slice_in_dim(cotangent, i, None, stride=2, axis=axis) for i in (0, 1))
    return (
        (1 - before) * even
        + (1 - after) * odd
        + shifted(before * even, 1, axis)
        + shifted(after * odd, -1, axis),
    )


_rise.defvjp(_rise_fwd, _rise_bwd)


def resize_linear(x: jax.Array, size: Sequence[int], *, align_corners: bool = False) -> jax.Array:
    """Linear interpolation along every axis: [B, *S, C] -> [B, *size, C], not smaller than S.

    `torch.nn.functional.interpolate` in the modes "bilinear" and "trilinear". A product with a
    constant matrix for each axis, which has a cheap gradient and which `jaxseg_xai.incremental` can
    read.

    Args:
      x: images or volumes.
      size: of the result, in pixels.
      align_corners: whether the first and last samples stay at the ends; else pixels are areas.
    """
    for axis, wanted in enumerate(size, 1):
        if x.shape[axis] != wanted:
            x = along_axis(x, linear_matrix(x.shape[axis], wanted, align_corners), axis)
    return x
