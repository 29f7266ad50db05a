"""What a model costs and sees, against numbers found by hand."""

import jax
import pytest
from flax import nnx

from jaxseg_xai.models import as_model
from jaxseg_xai.models.summary import summarise, untrained
from jaxseg_xai.ops import layers


class Net(nnx.Module):
    def __init__(self, rngs, rank=2):
        conv = {"conv_general_dilated": layers.conv_general_dilated, "rngs": rngs}
        self.first = nnx.Conv(1, 4, (3,) * rank, **conv)
        self.deep = nnx.Conv(4, 4, (3,) * rank, strides=2, **conv)
        self.head = nnx.ConvTranspose(4, 2, (2,) * rank, strides=2, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.deep(jax.nn.relu(self.first(x)))))


def summary(rank):
    model = as_model(
        Net(nnx.Rngs(0), rank),
        class_names=["background", "object"],
        channels=1,
        rank=rank,
        multiple_of=2,
        cam_layer="deep",
    )
    return summarise(model, 31, block_size=4, region_side=4)


def test_of_a_small_network():
    found = summary(2)
    assert found.size == (32, 32)  # the next that the model takes
    assert found.num_parameters == (9 * 4 + 4) + (9 * 16 + 4) + (4 * 8 + 2)
    # Transposed: each pixel of its input makes 2 x 2 of the output.
    products = 32**2 * 9 * 4 + 16**2 * 9 * 16 + 16**2 * 4 * 8
    assert found.flops == 2 * products
    assert found.output_stride == 2
    assert found.receptive_field == (5, 5)  # 3 of the strided, and 2 more around
    assert found.saving > 5


def test_of_a_network_of_volumes():
    found = summary(3)
    assert found.size == (32, 32, 32)
    assert found.num_parameters == (27 * 4 + 4) + (27 * 16 + 4) + (8 * 8 + 2)
    assert found.receptive_field == (5, 5, 5)
    assert found.saving > 20


#: (architecture, side of the image) -> how many times fewer FLOPs an intervention must have.
LEAST = {
    ("unet", 256): 14,
    ("segnet", 256): 5,
    ("unetpp", 256): 4.5,
    ("hrnet", 256): 1.8,
    ("deeplabv3_resnet50", 256): 1.8,
    ("fcn_resnet50", 256): 1.8,
    ("swinunet", 256): 1.5,
    ("unet", 512): 50,
    ("segnet", 512): 20,
    ("unetpp", 512): 10,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), LEAST)
def test_published_networks_stay_in_windows(name, side):
    found = summarise(untrained(name), side, block_size=8, region_side=32)
    assert found.saving >= LEAST[name, side]
