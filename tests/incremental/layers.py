"""Layers to build random networks from: each takes [B, *S, C] and keeps C."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxseg_xai.ops.layers import (
    max_pool_2_choices,
    max_unpool_2,
)

C = 4
NUMBERS = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def kernel(rng, *shape):
    return (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


def conv(size=(3, 3), *, padding="SAME", groups=1, layout=None, **options):
    ones, (usual, filters, _) = (1,) * len(size), NUMBERS[len(size)]
    layout = layout or usual

    def make(rng):
        numbers = (layout, filters, layout)

        def apply(w, x):
            return lax.conv_general_dilated(
                x,
                w,
                options.get("strides", ones),
                padding,
                lhs_dilation=options.get("spread", ones),
                rhs_dilation=options.get("dilation", ones),
                feature_group_count=groups,
                dimension_numbers=numbers,
            )

        return kernel(rng, *size, C // groups, C), apply

    return make


def transposed(size, strides, padding):
    def make(rng):
        def apply(w, x):
            return lax.conv_transpose(x, w, strides, padding)

        return kernel(rng, *size, C, C), apply

    return make


def plain(function):
    """A layer without weights."""
    return lambda rng: (np.zeros(()), lambda w, x: function(x))


def pool(kind, window, strides, padding, **options):
    return plain(lambda x: kind(x, window, strides=strides, padding=padding, **options))


def resize(factor, method, **options):
    def apply(x):
        size = [round(n * factor) for n in x.shape[1:-1]]
        return jax.image.resize(x, (len(x), *size, x.shape[-1]), method, **options)

    return plain(apply)


def padded(mode, *widths, size=3):
    def make(rng):
        def apply(w, x):
            x = jnp.pad(x, ((0, 0), *widths, (0, 0)), mode=mode)
            ones = (1,) * len(widths)
            return lax.conv_general_dilated(
                x, w, ones, "VALID", dimension_numbers=NUMBERS[len(widths)]
            )

        return kernel(rng, *(size,) * len(widths), C, C), apply

    return make


def norm(axes, groups=1):
    def apply(x):
        shape = x.shape
        x = x.reshape(*shape[:-1], groups, -1)
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        return ((x - mean) * lax.rsqrt(var + 1e-3)).reshape(shape)

    return plain(apply)


def flax_layer(cls, *args, **options):
    def make(rng):
        graph, state = nnx.split(cls(*args, **options, rngs=nnx.Rngs(int(rng.integers(99)))))
        return state, lambda w, x: nnx.merge(graph, w)(x)

    return make


def batch_norm(rng):
    model = nnx.BatchNorm(C, use_running_average=True, rngs=nnx.Rngs(0))
    model.mean.set_value(kernel(rng, C))
    graph, state = nnx.split(model)
    return state, lambda w, x: nnx.merge(graph, w)(x)


def position_embedding(rng):
    table = kernel(rng, 1, 64, 64, C)

    def apply(w, x):
        return x + w[:, : x.shape[1], : x.shape[2]] * jnp.linspace(0, 1, x.shape[2])[:, None]

    return table, apply


def checker(x):
    y, z = np.indices(x.shape[1:3])
    return jnp.where(((y // 3 + z) % 2 == 0)[None, :, :, None], x, -x)


def pixel_shuffle(x):
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return jnp.tile(x.reshape(b, 2 * h, 2 * w, c // 4), (1, 1, 1, 4))


def space_to_depth(x):
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // 2, w // 2, 4 * c)[..., ::4]


def max_unpooled(x):
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    pooled, choices = max_pool_2_choices(x)
    return max_unpool_2(-pooled, choices)


def aligned_corners(x, factor=3):
    def matrix(n):
        place = np.linspace(0.0, n - 1.0, factor * n)
        return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(n))).astype(np.float32)

    rows, columns = matrix(x.shape[1]), matrix(x.shape[2])
    return jnp.einsum("qw,bpwc->bpqc", columns, jnp.einsum("ph,bhwc->bpwc", rows, x))


def scan_rows(x):
    """A recurrence down the rows: nothing has a window."""
    _, found = lax.scan(
        lambda carry, row: (0.5 * carry + row,) * 2, jnp.zeros_like(x[:, 0]), x.swapaxes(0, 1)
    )
    return found.swapaxes(0, 1)


def top_and_sorted(x):
    return jnp.concatenate([lax.top_k(x, 2)[0], jnp.sort(x, axis=-1)[..., :2]], -1)


def axial_means(x):
    """Each slice less its mean: rows and columns are mixed, slices are not."""
    return x - x.mean((2, 3), keepdims=True)


def slice_by_slice(rng):
    """A convolution of images, with the slices in the batch."""
    w, apply = conv()(rng)
    return w, lambda w, x: apply(w, x.reshape(-1, *x.shape[2:])).reshape(x.shape)
