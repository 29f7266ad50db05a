import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.models.zoo.ukan import UKANConfig
from jaxseg_xai.models.zoo.unext import UNeXtConfig


def test_knots_in_a_file_are_checked_and_left_out():
    knots = np.tile(np.linspace(-2.2, 2.2, 12, dtype=np.float32), (4, 1))
    name = "block1.0.layer.fc1.grid"
    assert UKANConfig().translate({name: knots, "final.bias": knots[0]}).keys() == {"final.bias"}
    for moved in (knots + 0.1, knots[:, :8]):
        with pytest.raises(ModelError, match=f"{name}: the knots"):
            UKANConfig().translate({name: moved})


@pytest.mark.parametrize("config", [UKANConfig, UNeXtConfig])
@pytest.mark.parametrize(
    ("options", "match"),
    [({"depths": (1,)}, "depths has 1"), ({"encoder_channels": ()}, "one entry at least")],
)
def test_levels_that_do_not_match_are_named(config, options, match):
    with pytest.raises(ConfigError, match=match):
        config(**options)
