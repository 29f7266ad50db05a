"""The convolution that the CPU computes fast is the one that `lax` defines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxseg_xai.ops import layers, winograd
from jaxseg_xai.ops.convolution import convolve, plain, textbook

SAME, VALID, ODD = ((1, 1), (1, 1)), ((0, 0), (0, 0)), ((2, 0), (-1, 3))


@pytest.mark.parametrize("padding", [SAME, VALID, ODD])
@pytest.mark.parametrize("width", [16, 13, 3])
@pytest.mark.parametrize(
    ("channels", "outputs"), [(16, 16), (3, 16), (16, 3), (1, 8), (3, 3), (2, 20)]
)
def test_it_is_the_plain_convolution(channels, outputs, width, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 7, width, channels)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, channels, outputs)).astype(np.float32)
    found = convolve(x, kernel, padding, (1, 1), None)
    expected = plain(x, kernel, (1, 1), padding, (1, 1), None)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("padding", [SAME, VALID, ODD])
@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_a_convolution_of_many_channels_is_a_winograd(size, padding):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, *size, 32)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 32, 64)).astype(np.float32)

    def lanes_of(x):
        return jax.vmap(lambda image: convolve(image[None], kernel, padding, (1, 1), None)[0])(x)

    lanes = lanes_of(x)
    program = str(jax.make_jaxpr(lanes_of)(x))
    assert "dot_general" in program
    assert "conv_general_dilated" not in program
    expected = plain(x.astype(np.float64), kernel, (1, 1), padding, (1, 1), "highest")
    assert lanes.shape == expected.shape
    # Its sums round three times as often as the definition's 288 products.
    np.testing.assert_allclose(lanes, expected, atol=1e-4)


def test_a_winograd_that_would_fill_the_memory_or_joins_few_channels_does_not_pay():
    assert winograd.pays((9, 16, 16, 64), (3, 3, 64, 64), SAME)
    assert not winograd.pays((1, 128, 128, 64), (3, 3, 64, 64), SAME)
    assert not winograd.pays((1, 16, 16, 16), (3, 3, 16, 64), SAME)
    assert not winograd.pays((1, 16, 16, 64), (5, 5, 64, 64), SAME)


def test_images_smaller_than_the_kernel():
    x, kernel = jnp.ones((1, 2, 2, 64)), jnp.ones((3, 3, 64, 64))
    assert convolve(x, kernel, VALID, (1, 1), None).shape == (1, 0, 0, 64)
    assert convolve(x[:, :1, :1], kernel, SAME, (1, 1), None).shape == (1, 1, 1, 64)


@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
def test_larger_and_dilated_kernels(dilation):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 20, 18, 4)).astype(np.float32)
    kernel = rng.normal(size=(5, 4, 4, 6)).astype(np.float32)
    found = convolve(x, kernel, ((4, 4), (2, 5)), dilation, None)
    expected = plain(x, kernel, (1, 1), ((4, 4), (2, 5)), dilation, None)
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.parametrize(
    ("padding", "dilation"),
    [(((30, 30), (30, 30)), (30, 30)), (((12, 0), (3, 20)), (6, 11)), (((0, 0), (9, 9)), (1, 9))],
)
def test_taps_that_see_nothing_but_padding_are_left_out(padding, dilation):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1, 13, 9, 24)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 24, 20)).astype(np.float32)
    expected = plain(x, kernel, (1, 1), padding, dilation, None)
    found = convolve(x, kernel, padding, dilation, None)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=5e-5)
    (equation,) = [
        e
        for e in jax.make_jaxpr(convolve, (2, 3, 4))(x, kernel, padding, dilation, None).eqns
        if e.primitive.name == "conv_general_dilated"
    ]
    size = [
        sum(any(0 <= o - low + t * d < n for o in range(n + low + high - 2 * d)) for t in range(3))
        for n, (low, high), d in zip((13, 9), padding, dilation, strict=True)
    ]
    assert list(equation.invars[1].aval.shape[:2]) == size


@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "size", "options"),
    [
        (6, 6, 6, (3, 5), {"padding": "SAME"}),
        (4, 8, 4, (3, 3), {"padding": ((0, 0), (2, 1)), "strides": (2, 1)}),
        (6, 9, 3, (3, 3), {"padding": "SAME", "dilation": (2, 3), "strides": (1, 2)}),
        (8, 2, 2, (1, 1), {"padding": "VALID"}),
    ],
)
def test_a_convolution_of_small_groups_is_a_sum_of_shifted_images(
    channels, outputs, groups, size, options
):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(2, 9, 10, channels)).astype(np.float32)
    kernel = rng.normal(size=(*size, channels // groups, outputs)).astype(np.float32)
    args = (options.get("strides", (1, 1)), options["padding"], None, options.get("dilation"))
    more = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}

    def both(convolution):
        def summed(x, kernel):
            y = convolution(x, kernel, *args, **more)
            return jnp.sum(jnp.sin(y)), y

        return jax.grad(summed, (0, 1), has_aux=True)(x, kernel)

    text = str(jax.make_jaxpr(lambda: both(layers.conv_general_dilated))())
    assert "conv_general_dilated" not in text
    found, expected = both(layers.conv_general_dilated), both(lax.conv_general_dilated)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_the_textbook_form_is_one_convolution_even_where_the_fast_one_is_cached():
    x, kernel = jnp.ones((1, 8, 8, 16)), jnp.ones((3, 3, 16, 16))

    @jax.jit
    def layer(x, kernel):
        return convolve(x, kernel, SAME, (1, 1), None)

    def inside(x, kernel):
        (call,) = jax.make_jaxpr(layer)(x, kernel).eqns
        return [str(equation.primitive) for equation in call.params["jaxpr"].eqns]

    assert len(inside(x, kernel)) > 1
    with textbook(True):
        assert inside(x, kernel) == ["conv_general_dilated"]


@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 5, 8, 3)])
def test_both_forms_of_the_bilinear_upsampling_and_their_gradients_agree(shape):
    rng = np.random.default_rng(2)
    x = rng.normal(size=shape).astype(np.float32)
    found, back = jax.vjp(layers.upsample_2x_bilinear, x)
    with textbook(True):
        expected, expected_back = jax.vjp(layers.upsample_2x_bilinear, x)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    cotangent = rng.normal(size=found.shape).astype(np.float32)
    np.testing.assert_allclose(back(cotangent)[0], expected_back(cotangent)[0], atol=1e-5)


@pytest.mark.parametrize(("channels", "outputs"), [(16, 16), (32, 64)])
def test_the_gradient_of_a_faster_convolution_is_that_of_lax(channels, outputs):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 9, 11, channels)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, channels, outputs)).astype(np.float32) / channels

    def ours(x, kernel):
        return jnp.sum(jnp.sin(layers.conv_general_dilated(x, kernel, (1, 1), "SAME")))

    def theirs(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
        return jnp.sum(jnp.sin(y))

    found, expected = (jax.grad(f, (0, 1))(x, kernel) for f in (ours, theirs))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.parametrize("bytes_at_once", [1, 3000, 2**22])
@pytest.mark.parametrize(
    ("size", "dilation", "padding"),
    [
        ((3, 3, 3), (1, 1, 1), ((1, 1), (1, 1), (1, 1))),
        ((1, 3, 3), (1, 1, 1), ((0, 0), (0, 0), (1, 1))),
        ((4, 3, 5), (2, 1, 1), ((5, 0), (1, 1), (2, 3))),
        ((3, 3, 3), (1, 2, 1), ((-1, 2), (2, 2), (0, 0))),
    ],
)
def test_a_volume_is_convolved_slice_by_slice(size, dilation, padding, bytes_at_once, monkeypatch):
    monkeypatch.setattr("jaxseg_xai.ops.convolution._CACHE", bytes_at_once)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 8, 7, 9, 3)).astype(np.float32)
    kernel = rng.normal(size=(*size, 3, 20)).astype(np.float32)
    found = convolve(x, kernel, padding, dilation, None)
    expected = plain(x.astype(np.float64), kernel, (1, 1, 1), padding, dilation, "highest")
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_volume_in_lanes_and_its_gradient():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 6, 8, 7, 2)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 2, 4)), jnp.float32)
    numbers = ("NDHWC", "DHWIO", "NDHWC")

    def gradient(convolution, lane):
        def energy(volume):
            y = convolution(volume[None], kernel, (1, 1, 1), "SAME", dimension_numbers=numbers)
            return (y**2).sum()

        return jax.grad(energy)(lane)

    found = jax.vmap(lambda lane: gradient(layers.conv_general_dilated, lane))(x)
    expected = jnp.stack([gradient(lax.conv_general_dilated, lane) for lane in x])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_volume_smaller_than_the_kernel():
    x, kernel = jnp.ones((1, 2, 4, 4, 8)), jnp.ones((3, 3, 3, 8, 8))
    assert convolve(x, kernel, ((0, 0),) * 3, (1, 1, 1), None).shape == (1, 0, 2, 2, 8)
