import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
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


def state_dict(names, encoder, decoder, hidden):
    """Kernels only: what `for_weights` looks at."""
    (first, below, up), shapes = names, {}
    for i, width in enumerate(encoder):
        shapes[f"{below.format(i) if i else first}.3.weight"] = (width, 1, 3, 3)
    for i, (width, between) in enumerate(zip(decoder, hidden, strict=True), 1):
        shapes[f"{up.format(i)}.0.weight"] = (between, 1, 3, 3)
        shapes[f"{up.format(i)}.3.weight"] = (width, 1, 3, 3)
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


PDCR = ("inc.conv.conv", "down{}.mpconv.1.conv", "up{}.conv.conv")
MILESIAL = ("inc.double_conv", "down{}.maxpool_conv.1.double_conv", "up{}.conv.double_conv")


def test_a_preset_is_told_by_the_names_of_its_weights():
    pdcr, milesial = (UNetConfig.of_preset(name) for name in ("pdcr", "milesial"))
    for names, preset in ((PDCR, pdcr), (MILESIAL, milesial)):
        widths = preset.encoder_channels, preset.decoder_channels, preset.decoder_channels
        arrays = state_dict(names, *widths)
        if preset.upsample == "transposed":
            arrays["up1.up.weight"] = np.zeros((1024, 512, 2, 2), np.float32)
        assert UNetConfig().for_weights(arrays) == preset
    assert pdcr.input_spec() == InputSpec(channels=3)
    found = UNetConfig(num_logits=4).for_weights(state_dict(MILESIAL, (4, 6, 6), (3, 4), (6, 5)))
    assert (found.num_logits, found.encoder_channels) == (4, (4, 6, 6))
    assert (found.decoder_channels, found.decoder_hidden) == ((3, 4), (6, 5))


def test_what_is_set_is_kept_and_other_names_show_nothing():
    arrays = state_dict(PDCR, (4, 6), (4,), (4,))
    given = UNetConfig(encoder_channels=(8, 6), decoder_channels=(4,), upsample="nearest")
    assert given.for_weights(arrays) == dataclasses.replace(given, any_size=True)
    # A level is missing: which one, loading the weights tells.
    assert UNetConfig().for_weights(state_dict(PDCR, (4, 6, 6), (4,), (4,))) == UNetConfig()
    assert UNetConfig().for_weights({"inc.conv1.weight": np.zeros(3)}) == UNetConfig()
    with pytest.raises(ConfigError, match="use pdcr, milesial"):
        UNetConfig.of_preset("unet")


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
        ({"decoder_hidden": (4,)}, "decoder_hidden has 1"),
        ({"norm": "layer"}, "'layer'"),
        ({"upsample": "bicubic"}, "'bicubic'"),
        ({"in_channels": 0}, "at least 1"),
    ],
)
def test_bad_configurations_are_named(options, match):
    with pytest.raises(ConfigError, match=match):
        UNetConfig(**options)
