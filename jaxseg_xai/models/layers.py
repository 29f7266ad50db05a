"""Layers whose input gradients are cheap: the explainers differentiate with respect to images.

XLA's transpose of a convolution is slow inside loops on CPU, and the gradients of `reduce_window`
and of gathers are slow everywhere; these forms compute the same values without either.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


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
    convolutions go to `lax` unchanged. Inside loops on CPU JAX's own transpose rule is much slower
    than outside (jax issue 12868); an ordinary convolution is not. Reverse mode only.

    Args:
      lhs: images [B, H, W, C].
      rhs: kernel [h, w, C, O].
      window_strides: two strides.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)).
      lhs_dilation: two input dilations, or None.
      rhs_dilation: two kernel dilations, or None.
      **kwargs: the further arguments of `lax.conv_general_dilated`.

    Returns:
      [B, H', W', O].
    """
    dilation = tuple(rhs_dilation or (1, 1))
    plain = (
        tuple(window_strides) == (1, 1)
        and set(lhs_dilation or (1, 1)) == {1}
        and kwargs.get("feature_group_count", 1) == 1
        and lhs.ndim == 4
    )
    if not plain:
        return lax.conv_general_dilated(
            lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, **kwargs
        )
    if isinstance(padding, str):
        extent = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:2], dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], extent, (1, 1), padding)
    # The backward pass is traced later, when the default may be another.
    default = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    precision = kwargs.get("precision") or default
    return _stride_one_conv(lhs, rhs, tuple(map(tuple, padding)), dilation, precision)


def _convolve(x, kernel, padding, dilation, precision):
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )


_stride_one_conv = jax.custom_vjp(_convolve, nondiff_argnums=(2, 3, 4))


def _conv_fwd(x, kernel, padding, dilation, precision):
    return _convolve(x, kernel, padding, dilation, precision), (x, kernel)


def _conv_bwd(padding, dilation, precision, residuals, cotangent):
    x, kernel = residuals
    # Input pixel i meets tap t of the kernel in output pixel i - t + lo, so its gradient correlates
    # the cotangent with the flipped kernel, padded by the kernel's reach less the forward padding.
    flipped = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    reach = [(k - 1) * d for k, d in zip(kernel.shape[:2], dilation, strict=True)]
    back = tuple((r - lo, r - hi) for r, (lo, hi) in zip(reach, padding, strict=True))
    grad_x = _convolve(cotangent, flipped, back, dilation, precision)
    # XLA removes this where the weights are frozen, as they are in every explainer.
    _, of_kernel = jax.vjp(lambda k: _convolve(x, k, padding, dilation, precision), kernel)
    return grad_x, *of_kernel(cotangent)


_stride_one_conv.defvjp(_conv_fwd, _conv_bwd)


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """2x2 max-pooling, stride 2: [B, H, W, C] -> [B, H/2, W/2, C] (H and W even).

    Selections between strided slices: a cheaper gradient than that of `reduce_window`, and like
    there the first of several equal maxima gets it.
    """
    wide = _first_larger(x[:, :, 0::2], x[:, :, 1::2])
    return _first_larger(wide[:, 0::2], wide[:, 1::2])


def _first_larger(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(a >= b, a, b)


def upsample_2x_nearest(x: jax.Array) -> jax.Array:
    """Nearest-neighbour up-sampling by two: [B, H, W, C] -> [B, 2H, 2W, C]."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def upsample_2x_bilinear(x: jax.Array) -> jax.Array:
    """Bilinear up-sampling by two with aligned corners: [B, H, W, C] -> [B, 2H, 2W, C].

    Two small matrix products: `torch.nn.Upsample(scale_factor=2, align_corners=True)`.
    """
    rows, columns = (_aligned_bilinear(n).astype(x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ph,bhwc,qw->bpqc", rows, x, columns)


def _aligned_bilinear(size: int) -> np.ndarray:
    """Interpolation matrix [2n, n] whose first and last rows are the first and last samples."""
    position = np.linspace(0.0, size - 1.0, 2 * size)
    return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(size))).astype(np.float32)
