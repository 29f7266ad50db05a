"""3x3 convolutions with 4 products where the definition has 9, for CPUs.

Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308): tiles of 4x4 pixels and the kernel are
taken to 16 values each, one matrix product a value sums over the channels, and what comes out is
taken back to tiles of 2x2 pixels. Its sums and halves cost hardly a digit.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

#: Products per moved value from which it is faster, and bytes of an image's moved values beyond
#: which memory decides; both seen on one core of an AMD EPYC.
_WORTH, _MOST_BYTES = 20, 2**22


def pays(
    image_shape: Sequence[int], kernel_shape: Sequence[int], padding: Sequence[tuple[int, int]]
) -> bool:
    """Whether it is faster for images [B, H, W, C] and a kernel [h, w, C, O] in float32.

    Whatever B is: what an image gets must not depend on those beside it.
    """
    height, width, channels, outputs = kernel_shape
    moved = 4 * np.dtype(np.float32).itemsize * (channels + outputs)
    padded = [n + sum(ends) for n, ends in zip(image_shape[1:3], padding, strict=True)]
    return (
        (height, width) == (3, 3)
        and min(padded) >= 3
        and channels * outputs >= _WORTH * (channels + outputs)
        and moved * image_shape[1] * image_shape[2] <= _MOST_BYTES
    )


def convolve_3x3(
    x: jax.Array,
    kernel: jax.Array,
    padding: Sequence[tuple[int, int]],
    precision: lax.PrecisionLike,
) -> jax.Array:
    """Correlate images [B, H, W, C] with a kernel [3, 3, C, O]: [B, H', W', O].

    Args:
      x: images.
      kernel: weights.
      padding: ((top, bottom), (left, right)) in pixels.
      precision: of `lax.dot_general`.
    """
    batch, channels, outputs = x.shape[0], *kernel.shape[2:]
    found = [n + sum(ends) - 2 for n, ends in zip(x.shape[1:3], padding, strict=True)]
    tiles = [-(-n // 2) for n in found]
    # Else XLA computes what comes before and after once for every value that reads it.
    x = lax.optimization_barrier(x)
    ends = [(lo, hi + n % 2, 0) for (lo, hi), n in zip(padding, found, strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *ends, (0, 0, 0)])

    values = _of_image(_of_image(x, 1, tiles[0]), 3, tiles[1])  # [4, 4, B, *tiles, C]
    weights = _of_kernel(_of_kernel(kernel).swapaxes(0, 1))
    summed = lax.dot_general(
        values.reshape(16, -1, channels),
        weights.reshape(16, channels, outputs),
        (((2,), (1,)), ((0,), (0,))),
        precision=precision,
    )
    y = _back(_back(summed.reshape(4, 4, batch, *tiles, outputs), 4), 2)
    y = y.reshape(batch, 2 * tiles[0], 2 * tiles[1], outputs)
    return lax.optimization_barrier(y[:, : found[0], : found[1]])


def _of_image(x: jax.Array, axis: int, tiles: int) -> jax.Array:
    """The tiles along an axis, one every second pixel, as four values in a new leading axis."""
    size = 2 * tiles - 1
    a, b, c, d = (lax.slice_in_dim(x, i, i + size, 2, axis) for i in range(4))
    return jnp.stack([a - c, b + c, c - b, b - d])


def _of_kernel(kernel: jax.Array) -> jax.Array:
    """The leading axis of three weights as one of four values."""
    a, b, c = kernel
    return jnp.stack([a, (a + b + c) / 2, (a - b + c) / 2, c])


def _back(summed: jax.Array, axis: int) -> jax.Array:
    """The leading axis of four sums as one of two pixels, at `axis` of what is returned."""
    a, b, c, d = summed
    return jnp.stack([a + b + c, b - c - d], axis)
