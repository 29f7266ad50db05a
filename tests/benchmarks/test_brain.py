import pytest
from flax import nnx

from benchmarks.brain.__main__ import known, path_of
from jaxseg_xai.cli.command import read_toml
from jaxseg_xai.models.summary import num_parameters
from jaxseg_xai.training.config import TrainConfig

SIZES = {"brain": (192, 160), "brain-volume": (32, 32, 32)}


@pytest.mark.parametrize("name", known())
def test_the_networks_are_small_and_take_their_data(name):
    config = read_toml(path_of(name), TrainConfig)
    assert config.architecture == name
    network = config.network(1, 4)
    spec = network.input_spec()
    assert spec.fixed_size or not any(side % spec.multiple_of for side in SIZES[config.data])
    variables = nnx.state(nnx.eval_shape(lambda: network.build(nnx.Rngs(0))))
    assert 0 < num_parameters(variables) < 1e6
