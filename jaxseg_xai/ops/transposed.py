"""A transposed convolution as an ordinary one, at which CPUs are up to 300 times as fast.

Between two pixels of the input lie `stride` pixels of the output. Each of them reads the input by
taps of its own, so they are as many further channels of a convolution over the input's pixels.
"""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.ops.convolution import textbook


def transposed(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    convolve: Callable[[jax.Array, jax.Array, tuple[tuple[int, int], ...]], jax.Array],
) -> jax.Array:
    """Correlate images [B, *S, C], spread out by `strides`, with a kernel [*k, C, O].

    Args:
      x: images.
      kernel: weights.
      strides: from one input pixel to the next, of every axis of S, in output pixels.
      padding: (low, high) of every axis of S in output pixels, low not negative.
      convolve: (images, kernel, padding) -> their correlation of stride one.

    Returns:
      [B, *S', O], S' = (S - 1) strides + 2 + low + high - k.
    """
    rank, outputs, size, around = len(strides), kernel.shape[-1], [], []
    for axis, (stride, (low, high)) in enumerate(zip(strides, padding, strict=True)):
        n = x.shape[1 + axis]
        size.append((n - 1) * stride + 2 + low + high - kernel.shape[axis])
        kernel = _of_phases(kernel, axis, stride, low)
        first, found = low // stride, -(-size[-1] // stride)
        around.append((first, found + kernel.shape[axis] - 1 - first - n))
    y = convolve(x, kernel, tuple(around))
    whole = [n * stride for n, stride in zip(y.shape[1:-1], strides, strict=True)]
    y = y.reshape(*y.shape[:-1], *reversed(strides), outputs)
    pairs = ((1 + axis, 2 * rank - axis) for axis in range(rank))
    y = y.transpose(0, *itertools.chain.from_iterable(pairs), 1 + 2 * rank)
    y = y.reshape(len(x), *whole, outputs)
    return lax.slice(y, [0] * y.ndim, (len(x), *size, outputs))


def transposed_pays(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> bool:
    """Whether `transposed` can take it, and is faster than what `lax` does.

    Of images it is where no two taps meet; where they do the kernels of most phases hold zeros.
    """
    return (
        jax.default_backend() == "cpu"
        and not textbook.value
        and x.dtype == jnp.float32
        and min(low for low, _ in padding) >= 0
        and {*dilation} == {1}
        and (len(strides) == 3 or all(k <= s for k, s in zip(kernel.shape, strides, strict=False)))
    )


def _of_phases(kernel: jax.Array, axis: int, stride: int, low: int) -> jax.Array:
    """What each of the `stride` output pixels along an axis takes, as further output channels.

    Output pixel r of input pixel i takes tap `stride m + low - r` of input pixel i + m. With zeros
    before the kernel the taps of one m lie together, those of the last output pixel first.
    """
    before = stride - 1 - low % stride
    after = -(before + kernel.shape[axis]) % stride
    ends = [(before, after, 0) if d == axis else (0, 0, 0) for d in range(kernel.ndim)]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), ends)
    *taps, channels, outputs = kernel.shape
    taps[axis : axis + 1] = taps[axis] // stride, stride
    kernel = jnp.flip(kernel.reshape(*taps, channels, outputs), axis + 1)
    kernel = jnp.moveaxis(kernel, axis + 1, -2)
    return kernel.reshape(*kernel.shape[:-2], stride * outputs)
