import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.models.bundle import ModelCard, bundle_of
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.program.sites import find_sites
from jaxseg_xai.program.trace import trace


@pytest.mark.parametrize(
    ("norm", "upsample"),
    [
        (norm, upsample)
        for norm in ("batch", "group", "instance", "none")
        for upsample in ("bilinear", "nearest", "transposed")
    ],
)
def test_every_variant_has_the_shape_it_promises(norm, upsample):
    config = UNetConfig.of_width(
        4, 2, in_channels=2, num_logits=3, norm=norm, upsample=upsample, skip_first=False
    )
    model = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))
    card = ModelCard(architecture="unet", config=vars(config), class_names=("a", "b", "c"))
    bundle = bundle_of(card, model)
    shape = jax.eval_shape(bundle.segmenter, bundle.variables, jnp.ones((2, 8, 12, 2)))
    assert shape.shape == (2, 8, 12, 3)
    assert shape.dtype == jnp.float32


def test_a_network_without_poolings():
    model = UNetConfig(encoder_channels=(4,), decoder_channels=()).build(nnx.Rngs(0))
    assert model(jnp.ones((1, 7, 5, 3))).shape == (1, 7, 5, 1)


def test_of_width_is_the_pyramid_of_the_reference():
    assert UNetConfig.of_width(16, 4) == UNetConfig()
    assert UNetConfig().input_spec() == InputSpec(channels=3, multiple_of=16)


@pytest.mark.parametrize("depth", [1, 2])
def test_class_activation_maps_are_taken_from_the_bottleneck(depth):
    config = UNetConfig.of_width(4, depth)
    card = ModelCard(architecture="unet", config=vars(config), class_names=("a", "b"))
    bundle = bundle_of(card, nnx.eval_shape(lambda: config.build(nnx.Rngs(0))))
    program = trace(bundle.segmenter, bundle.variables, (1, 32, 32, 3), jnp.float32)
    layers = {site.name: program.shapes[site.value].shape for site in find_sites(program)}
    height = 32 // 2**depth
    assert layers[bundle.segmenter.sites.cam_layer][1:3] == (height, height)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"decoder_channels": (4,)}, "one fewer"),
        ({"norm": "layer"}, "'layer'"),
        ({"upsample": "bicubic"}, "'bicubic'"),
        ({"in_channels": 0}, "at least 1"),
    ],
)
def test_bad_configurations_are_named(options, match):
    with pytest.raises(ConfigError, match=match):
        UNetConfig(**options)
