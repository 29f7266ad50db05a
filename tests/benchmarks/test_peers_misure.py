import copy

import numpy as np
import pytest
import torch

from benchmarks.agreement import REFERENCE, triangles
from benchmarks.peers.misure import explain_original, explain_tuned
from benchmarks.peers.unet import torch_unet
from jaxseg_xai.explainers import MisurePaper
from jaxseg_xai.models.bundle import load_model
from jaxseg_xai.models.zoo.unet import UNetConfig
from tests.benchmarks.test_peers_unet import randomised
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


#: The triangle that needs a single dilation.
FEW = [1]


@pytest.fixture(scope="module")
def model():
    bundle = load_model(REFERENCE)
    return torch_unet(bundle.card.architecture_config(), bundle.variables)


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE / "misure_triangle8.npz") as file:
        return dict(file)


def test_original_equals_the_reference(model, reference):
    images = triangles()["images"][FEW]
    found = explain_original(model, images, np.ones(len(FEW), int), MisurePaper())
    np.testing.assert_array_equal(found.segment, reference["y"][FEW])
    np.testing.assert_array_equal(found.sufficient, reference["m_sr"][FEW])
    np.testing.assert_array_equal(found.dilations, reference["dilations"][FEW])
    np.testing.assert_allclose(found.dice_trace, reference["dice_trace"][FEW], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.trace, reference["loss"][FEW], rtol=1e-3)
    assert (np.abs(found.mask - reference["m_msr"][FEW]) > 1e-2).mean() < 2e-3
    np.testing.assert_allclose(found.dice_minimal, reference["dice_msr"][FEW], rtol=0, atol=2e-3)


def test_tuned_equals_the_reference_while_rounding_is_small(model, reference):
    images, settings = triangles()["images"][FEW], MisurePaper(num_iterations=15)
    found = explain_tuned(model, images, np.ones(len(FEW), int), settings)
    np.testing.assert_array_equal(found.sufficient, reference["m_sr"][FEW])
    np.testing.assert_allclose(found.dice_trace, reference["dice_trace"][FEW], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.trace, reference["loss"][FEW, :15], rtol=1e-3)


def test_stage_1_of_a_batch_drops_finished_images(model, reference):
    settings, ones = MisurePaper(num_iterations=1), np.ones(3, int)
    few = [1, 0, 3]  # 1, 18 and 25 dilations
    found = explain_tuned(model, triangles()["images"][few], ones, settings)
    np.testing.assert_array_equal(found.dilations, reference["dilations"][few])
    np.testing.assert_array_equal(found.sufficient, reference["m_sr"][few])
    np.testing.assert_allclose(found.dice_trace, reference["dice_trace"][few], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def small():
    """Three classes, predicted from the colour with a random context, and their images."""
    config = UNetConfig.of_width(4, 2, num_logits=3, norm="group")
    _, variables = randomised(config)
    torch_model = torch_unet(config, variables)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
    return torch_model, images


@pytest.mark.parametrize(
    "options",
    [{}, {"tv_weight": 0.3, "tv_power": 1.5, "cut": 0.4}, {"mask_stride": 3, "max_dilations": 2}],
)
def test_original_equals_tuned(small, options):
    model, images = small
    settings = MisurePaper(num_iterations=10, **options)
    classes = np.array([0, 1, 2])
    first = explain_original(model, images, classes, settings)
    assert first.segment.any((1, 2)).sum() > 1
    for batch_size in (2, 8):
        again = explain_tuned(model, images, classes, settings, batch_size=batch_size)
        for name in ("segment", "sufficient", "dilations"):
            np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
        np.testing.assert_allclose(again.trace, first.trace, rtol=1e-4)
        np.testing.assert_allclose(again.mask, first.mask, rtol=0, atol=1e-2)


def test_only_the_regions_count(small):
    model, images = small
    settings, classes = MisurePaper(num_iterations=2), np.array([0, 1, 2])
    whole = explain_original(model, images, classes, settings)
    regions = np.zeros(images.shape[:3], bool)
    regions[:, 2:12, 3:] = True
    first, again = (
        explain(model, images, classes, settings, regions)
        for explain in (explain_original, explain_tuned)
    )
    np.testing.assert_array_equal(first.segment, whole.segment & regions)
    np.testing.assert_allclose(again.trace, first.trace, rtol=1e-4)
    assert (np.abs(first.trace - whole.trace) > 1e-3).any()


def test_a_class_that_is_not_predicted(small):
    model, images = small
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.head.bias[1] -= 1e3
    found = explain_original(model, images, np.ones(3, int), MisurePaper(num_iterations=2))
    assert not found.mask.any()
    assert not found.dilations.any()
    assert np.isnan(found.trace).all()
    assert np.isnan(found.dice_minimal).all()
