"""The layers that random networks are built from, by name."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxseg_xai.models.blocks.window_attention import WindowAttention
from jaxseg_xai.ops.layers import (
    max_pool_2,
    resize_linear,
    upsample_2x_bilinear,
    upsample_2x_nearest,
)
from tests.incremental.attention import (
    attend,
    attention,
    attention_nchw,
    attention_of_voxels,
    squeeze_excite,
    squeeze_excite_pooled,
    window_attention,
)
from tests.incremental.layers import (
    C,
    aligned_corners,
    axial_means,
    batch_norm,
    checker,
    conv,
    flax_layer,
    kernel,
    max_unpooled,
    norm,
    padded,
    pixel_shuffle,
    plain,
    pool,
    position_embedding,
    resize,
    scan_rows,
    slice_by_slice,
    space_to_depth,
    top_and_sorted,
    transposed,
)

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
    "axial-attention": (lambda rng: (kernel(rng, 3, C, C), attend), "every position with every"),
    "roll": (plain(lambda x: jnp.roll(x, (2, -3), (1, 2))), None),
    "scan": (plain(scan_rows), "no rule for scan"),
    "cumsum-rows": (plain(lambda x: jnp.cumsum(x, 1)), "cumsum along an axis of the image"),
    "fft": (plain(lambda x: jnp.fft.ifft(jnp.fft.fft(x, axis=1), axis=1).real), "no rule for fft"),
    "tiled": (plain(lambda x: jnp.tile(x, (1, 2, 1, 1))), "repetitions of the whole image"),
    "transposed-image": (plain(lambda x: x.swapaxes(1, 2)), None),
    "matmul-rows": (plain(lambda x: x @ x.swapaxes(2, 3) @ x / 20), "every position with every"),
}

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
