"""A stride-one convolution as the backend computes it fastest; the same values up to rounding.

XLA's CPU backend has two libraries for convolutions. The faster one (YNNPACK) gets those of 3x3 and
larger kernels and more than 16 input or output channels, and is slow where nothing is padded. So
convolutions between few channels compute several pixels at once, those between many are Winograd's,
and others get a row of padding. Depthwise ones and those of small groups, at which both are slow,
are sums of shifted images. Volumes, at which both are slow, are convolved slice by slice.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.ops import winograd

#: Inside `with textbook(True)` layers are traced as the one convolution or matrix product that they
#: are, which `jaxseg_xai.incremental` can read and FLOPs are counted of.
textbook = jax.make_user_context(False)

#: More input or output channels than this are the faster library's.
_FEW_CHANNELS = 16
#: Output channels that keep it busy, and the most neighbours that are worth joining.
_ENOUGH, _MOST_PIXELS = 32, 8
#: Channels of a group up to which a sum of shifted images is faster than a grouped convolution, and
#: summands up to which it compiles quickly.
_SMALL_GROUP, _MOST_TERMS = 8, 80
#: Bytes of a volume's slices, with those beside them, that are convolved at once.
_CACHE = 2**22


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    padding: Sequence[tuple[int, int]],
    dilation: tuple[int, ...],
    precision: lax.PrecisionLike,
) -> jax.Array:
    """Correlate images [B, *S, C] with a kernel [*k, C, O]: [B, *S', O].

    Taps of the kernel that see nothing but padding are left out.

    Args:
      x: images or volumes.
      kernel: weights.
      padding: (low, high) of every axis of S in pixels, ((top, bottom), (left, right)).
      dilation: of the kernel.
      precision: of `lax.conv_general_dilated`.
    """
    if not textbook.value:
        kernel, padding = _seen(x, kernel, padding, dilation)
        x, padding = cropped(x, padding)
    on_cpu = jax.default_backend() == "cpu" and not textbook.value
    fast = on_cpu and x.dtype == jnp.float32 and min(kernel.shape[-4:-2]) >= 3
    if fast and x.ndim == 5 and x.shape[1] + sum(padding[0]) > (len(kernel) - 1) * dilation[0]:
        # One after the other: what one volume needs stays in the cache.
        return lax.map(
            lambda volume: _slice_by_slice(volume, kernel, padding, dilation, precision), x
        )
    fast = fast and x.ndim == 4
    if fast and (pixels := _pixels_at_once(kernel, dilation)) > 1:
        return _several_pixels_at_once(x, kernel, pixels, padding, precision)
    if fast and tuple(dilation) == (1, 1) and winograd.pays(x.shape, kernel.shape, padding):
        return winograd.convolve_3x3(x, kernel, padding, precision)
    if fast and not any(map(any, padding)):
        return plain(x, kernel, (1, 1), ((1, 0), (0, 0)), dilation, precision)[:, 1:]
    return plain(x, kernel, (1,) * len(padding), padding, dilation, precision)


def seen_taps(
    size: int, found: int, taps: int, low: int, *, dilation: int, stride: int = 1
) -> range:
    """The taps of a kernel that see a pixel of an axis: of one dilated widely the middle only.

    Args:
      size: of the axis.
      found: output pixels.
      taps: of the kernel.
      low: pixels of padding before the axis.
      dilation: from one tap to the next.
      stride: from one output pixel to the next.
    """
    last = (found - 1) * stride
    sees = [t for t in range(taps) if t * dilation - low < size and t * dilation - low + last >= 0]
    return range(sees[0], sees[-1] + 1) if sees and found > 0 else range(taps)


def _seen(
    x: jax.Array,
    kernel: jax.Array,
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> tuple[jax.Array, Sequence[tuple[int, int]]]:
    """The part of a kernel that sees the images, and the padding that it needs."""
    ends = []
    for axis, ((low, high), d) in enumerate(zip(padding, dilation, strict=True)):
        size, taps = x.shape[1 + axis], kernel.shape[axis]
        seen = seen_taps(size, size + low + high - (taps - 1) * d, taps, low, dilation=d)
        kernel = lax.slice_in_dim(kernel, seen.start, seen.stop, axis=axis)
        ends.append((low - seen.start * d, high - (taps - seen.stop) * d))
    return kernel, ends


def cropped(
    x: jax.Array, padding: Sequence[tuple[int, int]]
) -> tuple[jax.Array, Sequence[tuple[int, int]]]:
    """Images without what negative padding takes away, and the padding that is left.

    Where one end is padded and the other cut off, XLA's convolution reads past the image on CPUs.

    Args:
      x: images or volumes [B, *S, C].
      padding: (low, high) of every axis of S in pixels; negative ends are cut off.
    """
    for axis, (low, high) in enumerate(padding, 1):
        if min(low, high) < 0:
            x = lax.slice_in_dim(x, max(0, -low), x.shape[axis] - max(0, -high), axis=axis)
    return x, tuple((max(low, 0), max(high, 0)) for low, high in padding)


def grouped_pays(x: jax.Array, kernel: jax.Array, groups: int) -> bool:
    """Whether `grouped` is faster than what `lax` does with so many groups of channels."""
    return (
        jax.default_backend() == "cpu"
        and not textbook.value
        and x.dtype == jnp.float32
        and groups > 1
        and kernel.shape[-2] <= _SMALL_GROUP
        and math.prod(kernel.shape[:-1]) <= _MOST_TERMS
    )


def grouped(
    x: jax.Array,
    kernel: jax.Array,
    groups: int,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> jax.Array:
    """Correlate each of the groups of channels of images [B, *S, C] on its own.

    Args:
      x: images.
      kernel: [*k, C / groups, O], group after group.
      groups: how many.
      strides: of every axis of S, in pixels.
      padding: (low, high) of every axis of S in pixels.
      dilation: of the kernel.

    Returns:
      [B, *S', O].
    """
    *size, members, outputs = kernel.shape
    around = [(0, 0, 0), *((*ends, 0) for ends in padding), (0, 0, 0)]
    # Else XLA computes what comes before once for every tap.
    x = lax.optimization_barrier(lax.pad(x, jnp.zeros((), x.dtype), around))
    # The first channel of every group for all outputs of it, the second ones, ...
    each = [jnp.repeat(x[..., i::members], outputs // groups, -1) for i in range(members)]
    lasts = [
        (n - (k - 1) * d - 1) // s * s
        for n, k, s, d in zip(x.shape[1:-1], size, strides, dilation, strict=True)
    ]
    terms = []
    for *tap, member in itertools.product(*map(range, (*size, members))):
        first = [t * d for t, d in zip(tap, dilation, strict=True)]
        end = [low + last + 1 for low, last in zip(first, lasts, strict=True)]
        part = lax.slice(each[member], (0, *first, 0), (len(x), *end, outputs), (1, *strides, 1))
        terms.append(part * kernel[(*tap, member)])
    return functools.reduce(jnp.add, terms)


def plain(x, kernel, strides, padding, dilation, precision) -> jax.Array:
    """`convolve` with strides, as `lax` has it."""
    space = "DHW"[5 - x.ndim :]
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{space}C", f"{space}IO", f"N{space}C"),
        precision=precision,
    )


def _slice_by_slice(x, kernel, padding, dilation, precision) -> jax.Array:
    """Of a volume [D, H, W, C]: of images that have the slices beside them as further channels."""
    taps, *size, channels, outputs = kernel.shape
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(*size, taps * channels, outputs)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(*padding[0], 0), *[(0, 0, 0)] * 3])
    found = len(x) - (taps - 1) * dilation[0]

    def slices(start: int | jax.Array) -> jax.Array:
        parts = [
            lax.dynamic_slice_in_dim(x, start + tap * dilation[0], at_once) for tap in range(taps)
        ]
        joined = jnp.concatenate(parts, axis=-1)
        return convolve(joined, kernel, padding[1:], dilation[1:], precision)

    fit = _CACHE // (4 * taps * math.prod(x.shape[1:])) or 1
    at_once = max(n for n in range(1, found + 1) if found % n == 0 and n <= fit)
    if at_once == found:
        return slices(0)
    y = lax.map(slices, jnp.arange(0, found, at_once))
    return y.reshape(found, *y.shape[2:])


def _pixels_at_once(kernel: jax.Array, dilation: tuple[int, ...]) -> int:
    """Neighbouring output pixels to compute as further channels of one."""
    channels, outputs = kernel.shape[2:]
    if max(channels, outputs) > _FEW_CHANNELS or tuple(dilation) != (1, 1):
        return 1
    pixels = 1
    while pixels * outputs < _ENOUGH and pixels < _MOST_PIXELS:
        pixels *= 2
    # With an odd number of values between two reads it is fast only for more pixels.
    if channels % 2 == 0:
        return pixels
    return 2 * pixels if 2 * pixels <= _MOST_PIXELS else 1


def _several_pixels_at_once(x, kernel, pixels, padding, precision) -> jax.Array:
    """A strided convolution whose outputs are `pixels` neighbours in a row, each with its channels.

    The kernel gets wider by what the last of them reads more than the first, and holds zeros where
    one does not look.
    """
    width, outputs = kernel.shape[1], kernel.shape[3]
    shifted = [
        jnp.pad(kernel, ((0, 0), (i, pixels - 1 - i), (0, 0), (0, 0))) for i in range(pixels)
    ]
    wide = jnp.concatenate(shifted, axis=3)
    rows, (left, right) = padding
    found = x.shape[2] + left + right - (width - 1)
    spare = -found % pixels
    padding = (rows, (left, right + spare))
    if not any(map(any, padding)):
        padding, spare = (rows, (left, right + pixels)), pixels
    y = plain(x, wide, (1, pixels), padding, (1, 1), precision)
    y = y.reshape(*y.shape[:2], found + spare, outputs)
    return y[:, :, :found] if spare else y
