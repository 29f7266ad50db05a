import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxseg_xai.ops import layers

NHWC = ("NHWC", "HWIO", "NHWC")
NUMBERS = {2: NHWC, 3: ("NDHWC", "DHWIO", "NDHWC")}


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((0, 2), (3, 1))])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
def test_convolution_and_both_gradients_equal_lax(size, padding, dilation):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 17, 19, 3))
    kernel = jax.random.normal(keys[1], (*size, 3, 4))
    ours = functools.partial(
        layers.conv_general_dilated,
        window_strides=(1, 1),
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=NHWC,
    )
    theirs = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding=padding,
        rhs_dilation=dilation,
        dimension_numbers=NHWC,
    )
    value, pullback = jax.vjp(ours, x, kernel)
    expected, expected_pullback = jax.vjp(theirs, x, kernel)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    cotangent = jax.random.normal(keys[2], value.shape)
    for found, wanted in zip(pullback(cotangent), expected_pullback(cotangent), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.parametrize("padding", ["SAME", ((0, 2), (3, 1), (1, 0))])
def test_convolution_of_volumes_and_both_gradients_equal_lax(padding):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 6, 5, 7, 3))
    kernel = jax.random.normal(keys[1], (2, 3, 1, 3, 4))
    value, pullback, expected, expected_pullback = (
        item
        for convolve in (layers.conv_general_dilated, lax.conv_general_dilated)
        for item in jax.vjp(
            functools.partial(
                convolve,
                window_strides=(1, 1, 1),
                padding=padding,
                rhs_dilation=(1, 2, 1),
                dimension_numbers=NUMBERS[3],
            ),
            x,
            kernel,
        )
    )
    np.testing.assert_allclose(value, expected, atol=1e-5)
    cotangent = jax.random.normal(keys[2], value.shape)
    for found, wanted in zip(pullback(cotangent), expected_pullback(cotangent), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.parametrize(
    ("size", "padding", "options"),
    [
        ((4, 3), ((-2, 1), (-1, 0)), {}),
        ((3, 3), ((-1, 2), (0, 0)), {"window_strides": (2, 2)}),
        ((3, 3), ((-1, 2), (1, 1)), {"feature_group_count": 3}),
        ((3, 3), ((3, 1), (4, 0)), {}),
        ((3, 3, 3), ((0, 0), (-1, 1), (0, 0)), {}),
        ((3, 3, 3), ((1, 1), (4, 0), (3, 1)), {}),
        ((3, 3), ((-3, 0), (1, 1)), {}),
    ],
)
@pytest.mark.parametrize("outputs", [3, 9])
def test_padding_that_cuts_off_or_reaches_far(size, padding, options, outputs):
    """XLA's own convolutions go wrong on CPUs where one end is cut off and the other padded."""
    rank, keys = len(size), jax.random.split(jax.random.key(0), 3)
    options = {"window_strides": (1,) * rank, "dimension_numbers": NUMBERS[rank], **options}
    x = jax.random.normal(keys[0], (2, *(8, 7, 6)[:rank], 3))
    channels = 3 // options.get("feature_group_count", 1)
    kernel = jax.random.normal(keys[1], (*size, channels, outputs))

    def cut_first(x, kernel):
        x = lax.pad(x, 0.0, [(0, 0, 0), *((*ends, 0) for ends in padding), (0, 0, 0)])
        return lax.conv_general_dilated(x, kernel, padding="VALID", **options)

    ours = functools.partial(layers.conv_general_dilated, padding=padding, **options)
    value, pullback = jax.vjp(ours, x, kernel)
    expected, expected_pullback = jax.vjp(cut_first, x, kernel)
    np.testing.assert_allclose(value, expected, atol=1e-4)
    cotangent = jax.random.normal(keys[2], value.shape)
    for found, wanted in zip(pullback(cotangent), expected_pullback(cotangent), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.parametrize("shape", [(2, 2, 2, 3), (0, 8, 8, 3), (1, 2, 2, 2, 3)])
def test_a_convolution_of_nothing_is_nothing(shape):
    rank = len(shape) - 2
    kernel = jnp.ones((*(3,) * rank, 3, 4))
    ours = functools.partial(
        layers.conv_general_dilated,
        window_strides=(1,) * rank,
        padding="VALID",
        dimension_numbers=NUMBERS[rank],
    )
    value, pullback = jax.vjp(ours, jnp.ones(shape), kernel)
    assert value.size == 0
    x, of_kernel = pullback(value)
    assert x.shape == shape
    assert not of_kernel.any()


@pytest.mark.parametrize("rank", [2, 3])
def test_input_gradient_is_a_forward_convolution_without_weight_gradient_in_a_scan(rank):
    conv = nnx.Conv(
        3, 4, (3,) * rank, conv_general_dilated=layers.conv_general_dilated, rngs=nnx.Rngs(0)
    )

    def loop(x):
        gradient = jax.grad(lambda y: jnp.sum(conv(y) ** 2))
        return lax.scan(lambda y, _: (y - 0.1 * gradient(y), None), x, length=3)[0]

    text = jax.jit(loop).lower(jnp.ones((1, *(8,) * rank, 3))).compile().as_text()
    convolutions = [line for line in text.splitlines() if " convolution(" in line]
    # Forward and input gradient; a third would be the gradient of the frozen weights.
    assert len(convolutions) == 2
    assert not any("rhs_reversal" in line or "lhs_dilate" in line for line in convolutions)


@pytest.mark.parametrize(
    "options",
    [{"strides": 2}, {"feature_group_count": 3, "input_dilation": 2}, {"input_dilation": 2}],
)
def test_other_convolutions_go_to_lax(options):
    options = options | {"padding": 1}  # lax refuses names of paddings with input dilation
    ours = nnx.Conv(
        3, 6, (3, 3), conv_general_dilated=layers.conv_general_dilated, rngs=nnx.Rngs(0), **options
    )
    theirs = nnx.Conv(3, 6, (3, 3), rngs=nnx.Rngs(0), **options)
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    np.testing.assert_array_equal(ours(x), theirs(x))


@pytest.mark.parametrize("size", [(8, 6), (9, 7), (4, 8, 6)])
def test_max_pool_equals_reduce_window_with_ties(size):
    x = jnp.round(jax.random.normal(jax.random.key(0), (2, *size, 3)))
    cotangent = jax.random.normal(jax.random.key(1), (2, *(n // 2 for n in size), 3))
    window = (2,) * len(size)
    pools = (layers.max_pool_2, lambda x: nnx.max_pool(x, window, window))
    for found, wanted in zip(
        *(_value_and_pullback(pool, x, cotangent) for pool in pools), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_unpooling_puts_maxima_where_torch_does():
    torch = pytest.importorskip("torch", reason="torch (extra torch) is the reference")
    x = np.maximum(0, np.random.default_rng(0).normal(size=(2, 6, 8, 3)).round()).astype(np.float32)
    pooled, choices = layers.max_pool_2_choices(x)
    functional = torch.nn.functional
    wanted = functional.max_unpool2d(
        *functional.max_pool2d(torch.from_numpy(x).movedim(3, 1), 2, return_indices=True), 2
    )
    found = layers.max_unpool_2(pooled + 1.0, choices)
    ones = layers.max_unpool_2(jnp.ones_like(pooled), choices)
    np.testing.assert_array_equal(found - ones, wanted.movedim(1, 3))
    assert ones.sum() == pooled.size


@pytest.mark.parametrize("padding", [0, 1])
def test_overlapping_max_pool_equals_reduce_window_with_ties(padding):
    x = jnp.round(jax.random.normal(jax.random.key(0), (2, 8, 7, 3)))
    around = ((padding, padding),) * 2
    pools = (
        lambda x: layers.max_pool(x, 3, stride=2, padding=padding),
        lambda x: nnx.max_pool(x, (3, 3), (2, 2), around),
    )
    cotangent = jax.random.normal(jax.random.key(1), pools[1](x).shape)
    for found, wanted in zip(
        *(_value_and_pullback(pool, x, cotangent) for pool in pools), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def _value_and_pullback(function, x, cotangent):
    value, pullback = jax.vjp(function, x)
    return value, pullback(cotangent)[0]


def test_upsampling_equals_torch():
    torch = pytest.importorskip("torch", reason="torch (extra torch) is the reference")
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    nchw = torch.from_numpy(x.transpose(0, 3, 1, 2))
    bilinear = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)(nchw)
    nearest = torch.nn.Upsample(scale_factor=2, mode="nearest")(nchw)
    for ours, theirs in (
        (layers.upsample_2x_bilinear(x), bilinear),
        (layers.upsample_2x_nearest(jnp.asarray(x)), nearest),
    ):
        np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-6)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("size", "wanted"), [((5, 7), (20, 9)), ((1, 4), (3, 4)), ((3, 2, 4), (6, 5, 8))]
)
def test_linear_resizing_equals_torch(size, wanted, align_corners):
    torch = pytest.importorskip("torch", reason="torch (extra torch) is the reference")
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(np.moveaxis(x, -1, 1).copy()),
        wanted,
        mode="bilinear" if len(size) == 2 else "trilinear",
        align_corners=align_corners,
    )
    found = layers.resize_linear(jnp.asarray(x), wanted, align_corners=align_corners)
    np.testing.assert_allclose(found, np.moveaxis(theirs.numpy(), 1, -1), atol=1e-6)
