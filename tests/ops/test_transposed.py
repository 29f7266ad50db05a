"""Transposed convolutions by their phases are those that `lax` defines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxseg_xai.models.blocks.convolution import ConvTranspose
from jaxseg_xai.ops import layers
from jaxseg_xai.ops.convolution import textbook
from jaxseg_xai.ops.transposed import transposed

CASES = [
    ((2, 2, 2), (2, 2, 2), ((1, 1), (1, 1), (1, 1))),
    ((3, 3, 3), (2, 2, 2), ((1, 2), (1, 2), (1, 2))),
    ((1, 2, 2), (1, 2, 2), ((0, 0), (1, 1), (1, 1))),
    ((4, 2, 3), (2, 3, 1), ((2, 1), (0, 3), (1, 0))),
    ((1, 5, 3), (2, 2, 4), ((0, 1), (4, 0), (6, 2))),
]


def layout(rank):
    space = "DHW"[3 - rank :]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def drawn(rank, size):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *(4, 5, 3)[-rank:], 3))
    return jnp.asarray(x, jnp.float32), jnp.asarray(rng.normal(size=(*size, 3, 2)), jnp.float32)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("size", "strides", "padding"), CASES)
def test_it_is_the_convolution_of_what_is_spread_out(size, strides, padding, rank):
    size, strides, padding = (given[-rank:] for given in (size, strides, padding))
    x, kernel = drawn(rank, size)
    ones, numbers = (1,) * rank, ("NWC", "WIO", "NWC") if rank == 1 else layout(rank)

    def convolve(x, kernel, padding):
        return lax.conv_general_dilated(x, kernel, ones, padding, dimension_numbers=numbers)

    found = transposed(x, kernel, strides, padding, convolve)
    expected = lax.conv_general_dilated(x, kernel, ones, padding, strides, None, numbers)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(("size", "strides", "padding"), CASES[:4])
def test_a_layer_takes_it_with_its_gradients(size, strides, padding, rank):
    size, strides, padding = (given[-rank:] for given in (size, strides, padding))
    given = (1,) * rank, padding, strides, None

    def energy(convolution):
        def of(x, kernel):
            y = convolution(x, kernel, *given, dimension_numbers=layout(rank))
            return (y**2).sum()

        return jax.value_and_grad(of, (0, 1))(*drawn(rank, size))

    found, expected = energy(layers.conv_general_dilated), energy(lax.conv_general_dilated)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-3), *(found, expected)
    )


def test_only_the_textbook_spreads_the_input_out():
    x, kernel = drawn(3, (2, 2, 2))
    given = (1, 1, 1), ((1, 1),) * 3, (2, 2, 2), None

    def rise(x):
        return layers.conv_general_dilated(x, kernel, *given, dimension_numbers=layout(3))

    spread = "lhs_dilation=(2, 2, 2)"
    assert spread not in str(jax.make_jaxpr(rise)(x))
    with textbook(True):
        assert spread in str(jax.make_jaxpr(rise)(x))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": (2, 2, 2), "strides": 2, "padding": "VALID"},
        {"kernel_size": (1, 2, 3), "strides": (1, 2, 2), "padding": "VALID", "use_bias": False},
        {"kernel_size": (3, 3), "strides": 2, "padding": ((1, 2), (1, 2))},
        {"kernel_size": (2, 1), "strides": (3, 2), "padding": "VALID"},
        {"kernel_size": (2, 2), "strides": 2, "padding": "SAME"},
        {"kernel_size": (2, 2), "padding": "VALID", "kernel_dilation": 2},
        {"kernel_size": (1, 1), "padding": "VALID", "mask": np.tri(3, 4)[None, None]},
    ],
)
def test_the_layer_is_that_of_flax(options):
    rank = len(options["kernel_size"])
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *(4, 5, 3)[-rank:], 3)), jnp.float32)
    ours = ConvTranspose(3, 4, **options, rngs=nnx.Rngs(0))
    theirs = nnx.ConvTranspose(3, 4, **options, rngs=nnx.Rngs(0))
    if ours.bias is not None:
        ours.bias.set_value(jnp.arange(4.0))
        theirs.bias.set_value(jnp.arange(4.0))
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)
    np.testing.assert_allclose(ours(x[0]), theirs(x[0]), atol=1e-5)
