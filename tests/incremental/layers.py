"""Layers to build random networks from: each takes [B, *S, C] and keeps C."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxseg_xai.models.blocks.window_attention import WindowAttention
from jaxseg_xai.ops.layers import (
    max_pool_2,
    max_pool_2_choices,
    max_unpool_2,
    resize_linear,
    upsample_2x_bilinear,
    upsample_2x_nearest,
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


def squeeze_excite(rng):
    def apply(w, x):
        return x * nnx.sigmoid(x.mean(axis=(1, 2), keepdims=True) @ w)

    return kernel(rng, C, C), apply


def squeeze_excite_pooled(rng):
    def apply(w, x):
        return x * nnx.sigmoid(nnx.avg_pool(x, x.shape[1:3]) @ w)

    return kernel(rng, C, C), apply


def _attend(w, tokens):
    """Softmax attention over the second last axis of [..., N, C]."""
    q, k, v = (tokens @ w[i] for i in range(3))
    scores = nnx.softmax(jnp.einsum("...nc,...mc->...nm", q, k))
    return jnp.einsum("...nm,...mc->...nc", scores, v)


def attention(rng):
    def apply(w, x):
        b, h, width, c = x.shape
        return x + _attend(w, x.reshape(b, h * width, c)).reshape(x.shape)

    return kernel(rng, 3, C, C), apply


def attention_nchw(rng):
    def apply(w, x):
        x = x.transpose(0, 3, 1, 2)
        b, c, *_ = x.shape
        x = x + _attend(w, x.reshape(b, c, -1).swapaxes(1, 2)).swapaxes(1, 2).reshape(x.shape)
        return x.transpose(0, 2, 3, 1)

    return kernel(rng, 3, C, C), apply


def _in_windows(x, side, merged):
    b, h, w, c = x.shape
    x = x.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 2, 4, 5)
    lead = (-1,) if merged else x.shape[:3]
    return x.reshape(*lead, side * side, c)


def _back(x, shape, side):
    b, h, w, c = shape
    x = x.reshape(b, h // side, w // side, side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(shape)


def window_attention(*, merged, side=2, roll=0):
    """Swin merges windows into the batch; `merged=False` keeps them apart."""

    def make(rng):
        def apply(w, x):
            shifted = jnp.roll(x, (-roll, -roll), (1, 2)) if roll else x
            found = _attend(w, _in_windows(shifted, side, merged))
            found = _back(found, x.shape, side)
            return x + (jnp.roll(found, (roll, roll), (1, 2)) if roll else found)

        return kernel(rng, 3, C, C), apply

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


#: Windowed throughout.
WINDOWED = {
    "conv-strides": conv((3, 5), strides=(2, 3)),
    "conv-dilated": conv((3, 2), dilation=(2, 3)),
    "matmul": lambda rng: (kernel(rng, C, C), lambda w, x: jnp.matmul(x, w)),
    "matmul-batched": lambda rng: (
        kernel(rng, C, C),
        lambda w, x: x @ jnp.broadcast_to(w, (*x.shape[:2], C, C)),
    ),
    "vecmat": lambda rng: (kernel(rng, C, C), lambda w, x: jnp.vecmat(x, w)),
    "conv-widely-dilated": conv((3, 2), dilation=(11, 12), padding=((11, 11), (4, 8))),
    "conv-dilated-past-the-border": conv((3, 3), dilation=(40, 11)),
    "conv-strided-dilated": conv((2, 3), strides=(3, 2), dilation=(3, 2), padding="VALID"),
    "conv-asymmetric": conv((4, 2), padding=((3, 0), (0, 2))),
    "conv-wide-padding": conv((3, 3), padding=((5, 4), (0, 6))),
    "conv-cropping": conv((3, 3), padding=((-1, 2), (1, -2))),
    "conv-groups": conv(groups=2),
    "depthwise": conv((5, 5), groups=C),
    "conv-sparse": conv((1, 1), strides=(2, 2)),
    "transposed-2-2": transposed((2, 2), (2, 2), "VALID"),
    "transposed-3-2-odd": transposed((3, 3), (2, 2), "VALID"),
    "transposed-4-2-same": transposed((4, 4), (2, 2), "SAME"),
    "transposed-gaps": conv((2, 1), spread=(3, 2), padding=((1, 3), (1, 0))),
    "transposed-strided": conv((3, 3), spread=(3, 2), strides=(2, 2), padding=((2, 1), (1, 2))),
    "max-pool": pool(nnx.max_pool, (2, 3), (2, 2), "VALID"),
    "max-pool-same": pool(nnx.max_pool, (3, 3), (2, 2), "SAME"),
    "max-pool-slices": plain(
        lambda x: max_pool_2(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])
    ),
    "max-unpool": plain(max_unpooled),
    "avg-pool": pool(nnx.avg_pool, (3, 2), (2, 1), "SAME"),
    "avg-pool-uncounted": pool(nnx.avg_pool, (3, 3), (1, 2), "SAME", count_include_pad=False),
    "min-window": plain(
        lambda x: lax.reduce_window(
            x, np.inf, lax.min, (1, 2, 2, 1), (1, 1, 2, 1), "SAME", window_dilation=(1, 3, 2, 1)
        )
    ),
    "integer-max-pool": plain(
        lambda x: nnx.max_pool((100 * x).astype(jnp.int32), (3, 3), padding="SAME") / 100
    ),
    "repeat": plain(lambda x: jnp.repeat(jnp.repeat(x, 2, axis=1), 3, axis=2)),
    "nearest": plain(upsample_2x_nearest),
    "bilinear-aligned": plain(upsample_2x_bilinear),
    "bilinear-aligned-3": plain(aligned_corners),
    "bilinear-areas": plain(lambda x: resize_linear(x, (4 * x.shape[1], 2 * x.shape[2] + 1))),
    "resize-nearest": resize(1.7, "nearest"),
    "resize-nearest-down": resize(0.6, "nearest"),
    "resize-bilinear": resize(2, "bilinear"),
    "resize-bilinear-down": resize(0.6, "bilinear"),
    "resize-no-antialias": resize(0.5, "bilinear", antialias=False),
    "resize-cubic": resize(1.5, "cubic"),
    "pad-edge": padded("edge", (1, 2), (0, 3)),
    "pad-edge-once": padded("edge", (1, 1), (1, 1)),
    "pad-reflect": padded("reflect", (1, 1), (2, 3)),
    "pad-constant": padded("constant", (2, 0), (1, 5)),
    "crop": plain(lambda x: x[:, 1:-2, 2::2]),
    "take-rows": plain(lambda x: x[:, np.repeat(np.arange(x.shape[1])[::2], 3)]),
    "dynamic-slice": plain(lambda x: lax.dynamic_slice(x, (0, 2, 9, 0), (len(x), 6, 12, C))),
    "flip": plain(lambda x: x[:, ::-1, ::-1]),
    "batch-norm": batch_norm,
    "layer-norm": flax_layer(nnx.LayerNorm, C),
    "dense": flax_layer(nnx.Linear, C, C),
    "nchw": lambda rng: (
        kernel(rng, 3, 3, C, C),
        lambda w, x: conv(layout="NCHW")(np.random.default_rng(0))[1](
            w, x.transpose(0, 3, 1, 2)
        ).transpose(0, 2, 3, 1),
    ),
    "rows-first": plain(lambda x: jnp.tanh(x.transpose(1, 2, 0, 3)).transpose(2, 0, 1, 3)),
    "gelu-softmax": plain(lambda x: nnx.softmax(nnx.gelu(x)) * nnx.silu(x)),
    "where": plain(checker),
    "positions": position_embedding,
    "pixel-shuffle": plain(pixel_shuffle),
    "space-to-depth": plain(
        lambda x: space_to_depth(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])
    ),
    "channel-tricks": plain(top_and_sorted),
    "stack": plain(lambda x: jnp.stack([x, -x, x * x], 3).max(3)),
    "cumulative": plain(lambda x: jnp.cumsum(x, -1)),
    "remat": plain(jax.checkpoint(jnp.sin)),
    "window-attention": window_attention(merged=False),
    "shifted-windows": flax_layer(WindowAttention, C, 1, 2, 1),
}

#: Some part is computed whole: what the plan says about it.
WHOLE = {
    "global-pool": (plain(lambda x: x - x.mean((1, 2), keepdims=True)), "reduce_sum over all"),
    "row-mean": (plain(lambda x: x - x.mean(2, keepdims=True)), "reduce_sum over all columns"),
    "squeeze-excite": (squeeze_excite, "reduce_sum over all"),
    "squeeze-excite-pooled": (squeeze_excite_pooled, None),
    "group-norm": (flax_layer(nnx.GroupNorm, C, num_groups=2), "over all"),
    "instance-norm": (norm((1, 2)), "over all"),
    "attention": (attention, "a reshape that mixes the image's axes"),
    "attention-nchw": (attention_nchw, "a reshape that mixes the image's axes"),
    "swin": (window_attention(merged=True), "merges the batch"),
    "swin-shifted": (window_attention(merged=True, roll=1), "merges the batch"),
    "axial-attention": (lambda rng: (kernel(rng, 3, C, C), _attend), "every position with every"),
    "roll": (plain(lambda x: jnp.roll(x, (2, -3), (1, 2))), None),
    "scan": (plain(scan_rows), "no rule for scan"),
    "cumsum-rows": (plain(lambda x: jnp.cumsum(x, 1)), "cumsum along an axis of the image"),
    "fft": (plain(lambda x: jnp.fft.ifft(jnp.fft.fft(x, axis=1), axis=1).real), "no rule for fft"),
    "tiled": (plain(lambda x: jnp.tile(x, (1, 2, 1, 1))), "repetitions of the whole image"),
    "transposed-image": (plain(lambda x: x.swapaxes(1, 2)), None),
    "matmul-rows": (plain(lambda x: x @ x.swapaxes(2, 3) @ x / 20), "every position with every"),
}


def axial_means(x):
    """Each slice less its mean: rows and columns are mixed, slices are not."""
    return x - x.mean((2, 3), keepdims=True)


def slice_by_slice(rng):
    """A convolution of images, with the slices in the batch."""
    w, apply = conv()(rng)
    return w, lambda w, x: apply(w, x.reshape(-1, *x.shape[2:])).reshape(x.shape)


def attention_of_voxels(rng):
    def apply(w, x):
        tokens = x.reshape(len(x), -1, x.shape[-1])
        return x + _attend(w, tokens).reshape(x.shape)

    return kernel(rng, 3, C, C), apply


#: Of volumes, windowed throughout; those in a list follow each other.
VOLUME_WINDOWED = {
    "steps": [
        conv((3, 1, 3), strides=(1, 2, 1)),
        conv((2, 3, 2), strides=(2, 2, 1), padding=((1, 1), (2, 0), (0, 1))),
        transposed((2, 2, 2), (2, 2, 2), "VALID"),
        transposed((3, 2, 4), (1, 2, 2), "SAME"),
    ],
    "dilated": [
        conv((3, 3, 3), dilation=(1, 2, 3)),
        conv((3, 2, 3), dilation=(9, 1, 8), padding=((9, 9), (0, 1), (8, 8))),
        conv((3, 3, 3), groups=2, spread=(2, 1, 1), padding=((1, 2), (1, 1), (1, 1))),
    ],
    "pooled": [
        pool(nnx.max_pool, (2, 3, 2), (2, 2, 1), "SAME"),
        pool(nnx.avg_pool, (1, 2, 3), (1, 1, 2), "SAME", count_include_pad=False),
        plain(lambda x: jnp.repeat(jnp.repeat(jnp.repeat(x, 2, 1), 2, 2), 2, 3)),
        plain(lambda x: max_pool_2(x[:, : x.shape[1] // 2 * 2])),
        plain(lambda x: resize_linear(x, [2 * n for n in x.shape[1:-1]], align_corners=True)),
    ],
    "resized": [
        resize(2, "linear"),
        plain(lambda x: resize_linear(x, [n + 3 for n in x.shape[1:-1]])),
        resize(0.5, "nearest"),
        conv((3, 3, 3), layout="NDHWC"),
        padded("edge", (1, 2), (0, 1), (2, 0)),
        padded("reflect", (1, 1), (2, 0), (1, 0)),
    ],
    "in place": [
        batch_norm,
        flax_layer(nnx.LayerNorm, C),
        flax_layer(nnx.Linear, C, C),
        plain(lambda x: jnp.tanh(x.transpose(3, 1, 0, 4, 2)).transpose(2, 1, 4, 0, 3)),
        plain(lambda x: x[:, ::-1, 1:, ::-1]),
        plain(top_and_sorted),
    ],
}

#: Of volumes, with some part that is computed whole: what the plan says about it.
VOLUME_WHOLE = {
    "instance-norm": (norm((1, 2, 3)), "over all columns and rows and slices"),
    "axial-means": (plain(axial_means), "over all columns and rows"),
    "slice-by-slice": (slice_by_slice, "merges the batch"),
    "attention": (attention_of_voxels, "a reshape that mixes the image's axes"),
}
