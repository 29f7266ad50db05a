import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxseg_xai.models.adapters.nnx import NNXAdapter
from jaxseg_xai.models.norms import norm_layer
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.program.sites import find_sites, run_shifted
from jaxseg_xai.program.trace import trace
from tests.explainers import models
from tests.explainers.test_components import SIZE, unet


def test_the_layers_and_skips_of_a_unet_are_found_by_name():
    config = UNetConfig.of_width(2, 3)
    predict, variables = NNXAdapter.adapt(nnx.eval_shape(lambda: config.build(nnx.Rngs(0))), None)
    sites = find_sites(trace(predict, variables, (1, 16, 16, 3), np.float32))
    blocks = [f"encoder/{i}" for i in range(4)] + [f"decoder/{i}" for i in range(3)]
    layers = [f"{block}/conv{k}" for block in blocks for k in (1, 2)]
    assert [s.name for s in sites if s.kind == "layer"] == [*layers, "head"]
    assert [s.name for s in sites if s.kind == "skip"] == [
        f"encoder/{2 - i}/conv2 -> decoder/{i}/conv1" for i in range(3)
    ]


@pytest.mark.parametrize("upsample", ["nearest", "transposed"])
def test_skips_are_found_whatever_the_up_sampling(upsample):
    predict, variables = NNXAdapter.adapt(unet(upsample=upsample, skip_first=False), None)
    sites = find_sites(trace(predict, variables, (1, SIZE, SIZE, 1), np.float32))
    (skip,) = (site for site in sites if site.kind == "skip")
    assert skip.name == "encoder/0/conv2 -> decoder/0/conv1"
    assert ("up/0" in [site.name for site in sites]) == (upsample == "transposed")


def test_additions_are_skips_and_layers_used_twice_are_told_apart():
    kernel = jnp.ones((3, 3, 1, 1)) / 9

    def conv(x, weight, stride=1):
        return jax.lax.conv_general_dilated(
            x, weight, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def predict(variables, images):
        fine = conv(images, variables["w"])
        coarse = conv(fine, variables["w"], 2)
        return models.two_classes((fine + jax.image.resize(coarse, fine.shape, "nearest"))[..., 0])

    sites = find_sites(trace(predict, {"w": kernel}, (1, SIZE, SIZE, 1), np.float32))
    assert [site.name for site in sites] == ["w", "w#2", "w -> logits"]


@pytest.mark.parametrize("norm", ["none", "batch", "group", "instance"])
@pytest.mark.parametrize("activation", [nnx.relu, nnx.leaky_relu, nnx.silu, nnx.gelu])
def test_a_layer_is_followed_through_its_normalisation_and_activation(norm, activation):
    class Net(nnx.Module):
        def __init__(self):
            self.first = nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0))
            self.norm = norm_layer(norm, 4, nnx.Rngs(1), num_groups=2)
            self.second = nnx.Conv(4, 2, (3, 3), rngs=nnx.Rngs(2))

        def __call__(self, x):
            return self.second(activation(self.norm(self.first(x))))

    net = Net()
    predict, variables = NNXAdapter.adapt(net, None)
    image = jax.random.normal(jax.random.key(0), (1, SIZE, SIZE, 1))
    program = trace(predict, variables, image.shape, np.float32)
    first, second = find_sites(program)
    net.eval()
    wanted = activation(net.norm(net.first(image)))
    _, (found, logits) = run_shifted(program, variables, image, (first, second), [0.0, 0.0])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(logits, net.second(wanted), atol=1e-5)


def test_what_is_also_read_past_an_activation_is_not_followed_through_it():
    def predict(variables, images):
        x = images @ variables["w"]
        mixed = nnx.silu(x) @ variables["v"]
        return models.two_classes((mixed + x)[..., 0])

    weights = {"w": jnp.ones((1, 3)), "v": jnp.ones((3, 3))}
    program = trace(predict, weights, (1, SIZE, SIZE, 1), np.float32)
    first = find_sites(program)[0]
    (made,) = (equation for equation in program.equations if first.value in equation.outputs)
    assert made.primitive.name == "dot_general"
