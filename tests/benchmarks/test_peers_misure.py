import copy
import dataclasses

import jax
import numpy as np
import pytest
import torch

from benchmarks.agree.frozen import REFERENCE
from benchmarks.agree.published import misure_triangle
from benchmarks.arrays import Inputs
from benchmarks.peers.misure import original, tuned
from benchmarks.peers.unet import torch_unet, tuned_copy
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.models import load_model
from jaxseg_xai.models.zoo.unet import UNetConfig
from tests.benchmarks.test_peers_unet import randomised
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    bundle = load_model(REFERENCE)
    return torch_unet(bundle.card.architecture_config(), bundle.variables)


def few(*which):
    """Some triangles, and what PyTorch made of them."""
    reference = misure_triangle()
    arrays = (reference.inputs.images, reference.inputs.targets, reference.result)
    images, targets, result = jax.tree.map(lambda leaf: leaf[list(which)], arrays)
    return Inputs(images=images, targets=targets), result


def same_stage_1(found, expected):
    for name in ("segment", "sufficient", "dilations"):
        np.testing.assert_array_equal(found[name], expected[name])
    np.testing.assert_allclose(found["dice_trace"], expected["dice_trace"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("iterations", [30, pytest.param(100, marks=pytest.mark.slow)])
def test_original_equals_the_reference(model, iterations):
    inputs, expected = few(1)  # a single dilation
    found = original(model, inputs, MisurePaper(num_iterations=iterations))
    same_stage_1(found, expected)
    np.testing.assert_allclose(found["trace"], expected["trace"][:, :iterations], rtol=1e-3)
    if iterations == 100:
        assert (np.abs(found["mask"] - expected["mask"]) > 1e-2).mean() < 2e-3
        dices = [result["dice_minimal"] for result in (found, expected)]
        np.testing.assert_allclose(*dices, rtol=0, atol=2e-3)


def test_tuned_equals_the_reference_while_rounding_is_small(model):
    inputs, expected = few(1)
    found = tuned(tuned_copy(model), inputs, MisurePaper(num_iterations=15))
    same_stage_1(found, expected)
    np.testing.assert_allclose(found["trace"], expected["trace"][:, :15], rtol=1e-3)


def test_stage_1_of_a_batch_drops_finished_images(model):
    inputs, expected = few(1, 0, 3)  # 1, 18 and 25 dilations
    same_stage_1(tuned(tuned_copy(model), inputs, MisurePaper(num_iterations=1)), expected)


@pytest.fixture(scope="module")
def small():
    """Three classes, predicted from the colour with a random context, and their images."""
    config = UNetConfig.of_width(4, 2, num_logits=3, norm="group")
    _, variables = randomised(config)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
    whole = np.ones((3, 16, 16), bool)
    targets = SegmentTarget(class_index=np.arange(3), region=whole, reference=whole)
    return torch_unet(config, variables), Inputs(images=images, targets=targets)


@pytest.mark.parametrize(
    "options",
    [{}, {"cut": 0.4, "max_dilations": 2}],
)
def test_original_equals_tuned(small, options):
    model, inputs = small
    settings = MisurePaper(num_iterations=10, **options)
    first = original(model, inputs, settings)
    assert first["segment"].any((1, 2)).sum() > 1
    for batch_size in (2, 8):
        again = tuned(tuned_copy(model), inputs, settings, size=batch_size)
        same_stage_1(again, first)
        np.testing.assert_allclose(again["trace"], first["trace"], rtol=1e-4)
        np.testing.assert_allclose(again["mask"], first["mask"], rtol=0, atol=1e-2)


@pytest.mark.parametrize("options", [{"tv_weight": 0.1}, {"mask_stride": 3}])
def test_what_the_peers_do_not_know_is_refused(small, options):
    with pytest.raises(ValueError, match="the peers know no"):
        original(*small, MisurePaper(**options))


def test_only_the_regions_count(small):
    model, inputs = small
    settings = MisurePaper(num_iterations=2)
    whole = original(model, inputs, settings)
    regions = np.zeros(inputs.images.shape[:3], bool)
    regions[:, 2:12, 3:] = True
    inside = inputs.replace(targets=dataclasses.replace(inputs.targets, region=regions))
    first, again = original(model, inside, settings), tuned(tuned_copy(model), inside, settings)
    np.testing.assert_array_equal(first["segment"], whole["segment"] & regions)
    np.testing.assert_allclose(again["trace"], first["trace"], rtol=1e-4)
    assert (np.abs(first["trace"] - whole["trace"]) > 1e-3).any()


def test_a_class_that_is_not_predicted(small):
    model, inputs = small
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.head.bias[1] -= 1e3
    targets = dataclasses.replace(inputs.targets, class_index=np.ones(3, int))
    found = original(model, inputs.replace(targets=targets), MisurePaper(num_iterations=2))
    assert not found["mask"].any()
    assert not found["dilations"].any()
    assert np.isnan(found["trace"]).all()
    assert np.isnan(found["dice_minimal"]).all()
