import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from benchmarks.peers.unet import channels_first, class_logits, torch_unet, tuned_copy
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.models import load_model
from jaxseg_xai.models.adapters.nnx import NNXAdapter
from jaxseg_xai.models.zoo.unet import UNetConfig
from jaxseg_xai.models.zoo.unet3d import UNet3DConfig
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


CONFIGS = [
    UNetConfig.of_width(4, 3),
    UNetConfig.of_width(6, 2, in_channels=1, num_logits=3, norm="group", upsample="nearest"),
    UNetConfig.of_width(4, 2, norm="instance", upsample="transposed", skip_first=False),
    UNetConfig(
        in_channels=2,
        num_logits=2,
        encoder_channels=(5, 7, 9),
        decoder_channels=(8, 3),
        norm="none",
        upsample="transposed",
        head_relu=True,
    ),
    UNet3DConfig(in_channels=2, encoder_channels=(3, 4, 5), decoder_channels=(4, 2), norm="batch"),
]


@functools.cache
def randomised(config):
    """A model no weight or statistic of which is at its trivial start."""
    model = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    for path, variable in nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat))):
        low = -0.3 if path[-1] == "kernel" else 0.5
        variable.set_value(jnp.asarray(rng.uniform(low, low + 0.6, variable.shape), "float32"))
    apply, variables = NNXAdapter.adapt(model, None)
    names = tuple(map(str, range(max(2, config.num_logits))))
    spec, output = config.input_spec(), OutputSpec(class_names=names)
    return Segmenter(apply=apply, input=spec, output=output), variables


def torch_logits(model, images):
    with torch.inference_mode():
        return class_logits(model(channels_first(images))).movedim(1, -1).numpy()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("make", [lambda model: model, tuned_copy])
def test_logits_equal_those_of_the_flax_model(config, make):
    predict, variables = randomised(config)
    size = {2: (16, 24), 3: (4, 12, 8)}[predict.input.rank]
    images = np.random.default_rng(1).random((2, *size, config.in_channels), np.float32)
    expected = np.asarray(jax.jit(predict)(variables, images))
    found = torch_logits(make(torch_unet(config, variables)), images)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_bundled_weights():
    bundle = load_model("triangle")
    images = np.random.default_rng(2).random((1, 64, 64, 3), np.float32)
    model = torch_unet(bundle.card.architecture_config(), bundle.variables)
    assert not model.training
    expected = jax.jit(bundle.segmenter)(bundle.variables, images)
    np.testing.assert_allclose(torch_logits(model, images), expected, rtol=0, atol=1e-4)


def test_the_tuned_copy_leaves_the_model_as_it_was():
    _, variables = randomised(CONFIGS[0])
    model = torch_unet(CONFIGS[0], variables)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not any(p.requires_grad for p in tuned_copy(model).parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
