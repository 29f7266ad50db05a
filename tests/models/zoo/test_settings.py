"""Settings of the zoo that do not match are one line with the remedy."""

import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.models.registry import MODELS


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("fcn_resnet50", {"depths": (3, 4)}, "depths has 2 entries, widths 4; give one per stage"),
        ("deeplabv3_mobilenet_v3_large", {"widths": (16,)}, "kernels has 15 entries, widths 1"),
        ("lraspp_mobilenet_v3_large", {"kernels": (4,) * 15}, "kernels has 4; give odd sizes"),
        ("lraspp_mobilenet_v3_large", {"strides": (1,) * 15}, "strides has fewer than two 2s"),
        ("hrnet", {"modules": (1,)}, "modules has 1 entries; 4 widths need one fewer"),
        ("swinunet", {"num_heads": (3,)}, "num_heads has 1 entries, depths 4; give one per stage"),
        ("swinunet", {"num_heads": (5, 6, 12, 24)}, "5 heads cannot share 96 channels"),
        ("swinunet", {"image_size": 200}, "image_size is 200; it must be a multiple of 32"),
        ("swinunet", {"image_size": 288}, "36 tokens of stage 1 are no multiple of window_size"),
        ("swinunet", {"depths": (2,), "num_heads": (3,)}, "depths has fewer than 2 entries"),
        ("transunet", {"decoder_channels": (64,)}, "decoder_channels has 1 entries; 3 resnet_de"),
        ("transunet", {"resnet_depths": (3,)}, "resnet_depths has fewer than 2 entries"),
        ("transunet", {"num_heads": 5}, "5 heads cannot share hidden_size = 768"),
        ("transunet", {"resnet_width": 48}, "32 groups cannot share resnet_width = 48"),
        ("transunet", {"image_size": 100}, "image_size is 100; it must be a multiple of 16"),
    ],
)
def test_settings_that_do_not_match(name, settings, match):
    with pytest.raises(ConfigError, match=match) as error:
        MODELS.get(name)(**settings)
    assert "\n" not in str(error.value)
