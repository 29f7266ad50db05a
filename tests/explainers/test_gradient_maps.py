"""Integrated gradients and Grad-CAM: what both have in common, and each by itself."""

import dataclasses
import functools
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.segmenter import Sites
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import EXPLAINERS, runner
from jaxseg_xai.explainers.cam.grad_cam import GradCam
from jaxseg_xai.explainers.gradient.expected_gradients import ExpectedGradients
from jaxseg_xai.explainers.gradient.guided_backprop import GuidedBackprop
from jaxseg_xai.explainers.gradient.input_x_gradient import InputXGradient
from jaxseg_xai.explainers.gradient.integrated_gradients import IntegratedGradients
from tests.explainers import models, test_components
from tests.explainers.models import problem_of_module
from tests.explainers.test_components import SIZE
from tests.support import batch_of, problem_of, segmenter_of

METHODS = [IntegratedGradients(num_nodes=3), GradCam()]


@functools.cache
def unet():
    return problem_of_module(test_components.unet(), multiple_of=2)


def pictures(count):
    """Bright on the left, where the U-Net predicts class 1."""
    return test_components.pictures(count)


def run(method, images, problem=None, region=None, others=None):
    problem = problem or unet()
    batch = batch_of(problem, images, region=region, others=others)
    found = runner.explain(method, problem, batch, mesh=device_mesh(jax.devices()[:1]))
    chex.assert_tree_all_finite((found.attribution, found.maps))
    return found


def saturating(variables, images):
    return models.two_classes(jnp.tanh(6 * (images[..., 0] - 0.3)))


def convolved_by(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolved(variables, images):
    features = convolved_by(images, variables["sum"])
    return models.two_classes(jnp.tensordot(features, variables["head"], 1))


def test_integrated_gradients_of_a_linear_model_are_its_terms():
    """With one node already, and nothing is left over."""
    images = pictures(1)
    variables = {"sum": np.ones((1, 1, 1, 1), np.float32), "head": np.full(1, 2, np.float32)}
    found = run(IntegratedGradients(num_nodes=1), images, problem_of(convolved, variables))
    np.testing.assert_allclose(found.attribution[0], 2 * images[0, ..., 0], rtol=1e-6)
    assert found.scores["area_target"] == SIZE**2
    assert found.scores["outcome"][0] == pytest.approx(2 * images.sum(), rel=1e-5)
    assert found.scores["baseline_outcome"] == 0
    assert found.scores["completeness_gap"] < 1e-2


def test_integrated_gradients_add_up_with_more_nodes():
    found = [
        run(IntegratedGradients(num_nodes=n), pictures(1), problem_of(saturating))
        for n in (1, 2, 8)
    ]
    gaps = [float(one.scores["completeness_gap"][0]) for one in found]
    assert gaps[0] > 1
    assert gaps[1] < gaps[0] / 2
    assert gaps[2] < 0.05
    scores = found[2].scores
    change = float(scores["outcome"][0] - scores["baseline_outcome"][0])
    assert float(found[2].attribution.sum()) == pytest.approx(change, abs=0.05)


def test_grad_cam_of_known_channels():
    """Alpha is the head's weight times the share of pixels explained; its sign decides."""
    images = np.zeros((1, SIZE, SIZE, 1), np.float32)
    images[0, 2:6, 3:7] = 1
    variables = {
        "sum": np.array([1.0, -1.0], np.float32).reshape(1, 1, 1, 2),
        "head": np.array([3.0, 1.0], np.float32),
    }
    found = run(GradCam(), images, problem_of(convolved, variables))
    # Logits 3 x - x: class 1 where the image is bright, 16 pixels.
    assert found.scores["area_target"] == 16
    share = 16 / SIZE**2
    expected = np.maximum(share * (3 * images - images), 0)[0, ..., 0]
    np.testing.assert_allclose(found.attribution[0], expected, atol=1e-6)


def test_grad_cam_of_a_volume_is_as_large_as_the_volume():
    """A layer of half the resolution, its channels weighed as by hand."""

    def strided(variables, images):
        kernel = jnp.ones((2, 2, 2, 1, 1)) * variables["w"]
        coarse = jax.lax.conv_general_dilated(
            images, kernel, (2, 2, 2), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )
        fine = jax.image.resize(coarse, images.shape, "nearest")
        return models.two_classes(3 * fine[..., 0] - 1)

    images = np.zeros((1, 2, 4, 6, 1), np.float32)
    images[0, :, :2, :2] = 1
    problem = problem_of(strided, {"w": np.float32(1 / 8)}, rank=3)
    found = run(GradCam(), images, problem)
    layer = np.zeros((1, 2, 3), np.float32)
    layer[0, 0, 0] = 1
    # 8 pixels of the only bright voxel of the layer count 3 each; the mean is over 6.
    expected = jax.image.resize(layer * 3 * 8 / 6, images.shape[1:-1], "linear")
    np.testing.assert_allclose(found.attribution[0], expected, atol=1e-6)
    size = [float(found.scores[name][0]) for name in ("depth", "height", "width")]
    assert size == [1, 2, 3]


def find(method, problem):
    return method.find(problem.segmenter, problem.variables, (SIZE, SIZE, 1))


def test_grad_cam_looks_at_the_bottleneck_unless_told_otherwise():
    problem = unet()
    assert find(GradCam(), problem)[1].name == "encoder/1/conv2"
    assert find(GradCam(layer="head"), problem)[1].name == "head"
    said = dataclasses.replace(problem.segmenter, sites=Sites(cam_layer="decoder/0/conv1"))
    problem = dataclasses.replace(problem, segmenter=said)
    assert find(GradCam(), problem)[1].name == "decoder/0/conv1"
    assert find(GradCam(layer="head"), problem)[1].name == "head"
    found = run(GradCam(), pictures(4))
    assert set(np.asarray(found.scores["height"])) == {SIZE // 2}


def test_a_pooled_branch_is_no_bottleneck():
    """As of squeeze-and-excitation, whose convolutions make one pixel."""

    def excited(variables, images):
        features = convolved_by(images, variables["first"])
        pooled = jnp.mean(features, axis=(1, 2), keepdims=True)
        features *= jax.nn.sigmoid(convolved_by(pooled, variables["gate"]))
        return models.two_classes(convolved_by(features, variables["head"])[..., 0])

    kernels = {"first": (1, 2), "gate": (2, 2), "head": (2, 1)}
    variables = {name: np.ones((1, 1, *shape), np.float32) for name, shape in kernels.items()}
    program, site = find(GradCam(), problem_of(excited, variables))
    assert program.shapes[site.value].shape == (1, SIZE, SIZE, 2)


def test_grad_cam_of_the_head_is_its_logits_times_the_share_explained():
    images, problem = pictures(4), unet()
    z = np.asarray(problem.segmenter.logits(problem.variables, images))[..., 1]
    share = (z > 0).mean((1, 2), keepdims=True)
    assert ((share > 0) & (share < 1)).all()
    found = run(GradCam(layer="head"), images)
    np.testing.assert_allclose(found.attribution, np.maximum(share * z, 0), atol=1e-5)


def test_grad_cam_runs_the_model_forward_once():
    """The runner's own forward pass, which would come on top, is dropped by the compiler."""

    def two_layers(variables, images):
        features = jax.nn.relu(convolved_by(images, variables["first"]))
        return models.two_classes(convolved_by(features, variables["head"])[..., 0])

    kernels = {"first": (1, 4), "head": (4, 1)}
    rng = np.random.default_rng(0)
    variables = {name: rng.normal(size=(3, 3, *s)).astype("f") for name, s in kernels.items()}
    problem = problem_of(two_layers, variables)
    mesh = device_mesh(jax.devices()[:1])
    lowered = runner.lower(GradCam(), problem, batch_of(problem, pictures(1)), mesh=mesh)
    # Two layers forward, one of them backward.
    assert lowered.compile().as_text().count(" convolution(") == 3


@pytest.mark.parametrize("method", METHODS)
def test_only_the_region_is_explained(method):
    region = np.ones((4, SIZE, SIZE), bool)
    region[:2, SIZE // 2 :] = False
    whole, found = run(method, pictures(4)), run(method, pictures(4), region=region)
    areas = [np.asarray(one.scores["area_target"]) for one in (found, whole)]
    assert (areas[0] < areas[1]).tolist() == [True, True, False, False]
    np.testing.assert_array_equal(found.attribution[2:], whole.attribution[2:])


def test_the_outcome_is_a_setting():
    images, problem = pictures(1), unet()
    found = run(IntegratedGradients(num_nodes=16, outcome="soft_dice"), images)
    assert 0 < found.scores["outcome"][0] < 100
    assert found.scores["completeness_gap"][0] < 1
    head = GradCam(layer="head")
    found = [run(dataclasses.replace(head, outcome=o), images) for o in ("soft_dice", head.outcome)]
    assert not np.allclose(found[0].attribution, found[1].attribution)
    with pytest.raises(ConfigError, match=r"grad_cam.outcome is 'dice', .*; use soft_dice"):
        run(GradCam(outcome="dice"), images, problem)


def test_gradients_that_are_not_finite():
    def steep(variables, images):
        return models.two_classes(jnp.sqrt(images[..., 0] - images[..., 0]) + 1.0)

    found = run(IntegratedGradients(num_nodes=2), pictures(1), problem_of(steep))
    assert found.status.tolist() == [Status.NON_FINITE]


def test_a_layer_that_is_not_there_is_refused_and_the_others_are_listed():
    with pytest.raises(ConfigError, match=r"no layer conv9; the model has encoder/0/conv1, .*head"):
        run(GradCam(layer="conv9"), pictures(1))
    with pytest.raises(ModelError, match=r"no convolution .* give them as variables"):
        run(GradCam(), pictures(1), problem_of(models.bright_pixels))


def test_layers_without_a_height_are_no_layers():
    def tokens(variables, images):
        features = images.reshape(len(images), -1, 1) @ variables["w"]
        return models.two_classes(features[..., 0].reshape(images.shape[:3]))

    problem = problem_of(segmenter_of(tokens), {"w": np.ones((1, 1), np.float32)})
    with pytest.raises(ModelError, match="grad_cam needs a convolution"):
        run(GradCam(), pictures(1), problem)


def test_input_x_gradient_of_a_linear_model_is_its_terms_and_of_a_saturated_pixel_nothing():
    images = pictures(1)
    variables = {"sum": np.ones((1, 1, 1, 1), np.float32), "head": np.full(1, 2, np.float32)}
    found = run(InputXGradient(), images, problem_of(convolved, variables))
    np.testing.assert_allclose(found.attribution[0], 2 * images[0, ..., 0], rtol=1e-6)
    curved = run(InputXGradient(), images, problem_of(saturating))
    x = images[0, ..., 0]
    slope = np.where(x > 0.3, 6 / np.cosh(6 * (x - 0.3)) ** 2, 0)  # of what is explained
    np.testing.assert_allclose(curved.attribution[0], slope * x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_others", [1, 3])
def test_expected_gradients_are_integrated_from_each_other_image(num_others):
    images = pictures(1)
    rng = np.random.default_rng(num_others)
    others = rng.uniform(0, 0.2, (1, num_others, SIZE, SIZE, 1)).astype(np.float32)
    method = ExpectedGradients(num_samples=60 * num_others, num_others=num_others)
    found = run(method, images, problem_of(saturating), others=others)
    x, mean = images[0, ..., 0], np.zeros((SIZE, SIZE))
    own = x > 0.3
    for other in others[0, ..., 0]:  # the integral of the slope from x' to x is F(x) - F(x')
        mean += np.tanh(6 * (x - 0.3)) - np.tanh(6 * (other - 0.3))
    expected = np.where(own, mean / num_others, 0)
    np.testing.assert_allclose(found.attribution[0], expected, atol=0.05)
    assert found.scores["completeness_gap"][0] < 0.005 * expected.sum()
    change = found.scores["outcome"][0] - found.scores["baseline_outcome"][0]
    assert change == pytest.approx(expected.sum(), rel=1e-4)


@pytest.mark.parametrize("name", ["guided_backprop", "input_x_gradient", "integrated_gradients"])
def test_maps_are_those_of_captum(name):
    theirs = dict(np.load(Path(__file__).parents[1] / "reference/captum.npz"))
    problem, batch = models.frozen(theirs)
    found = runner.explain(
        EXPLAINERS.get(name)(), problem, batch, mesh=device_mesh(jax.devices()[:1])
    )
    scale = np.abs(theirs[name]).max()
    np.testing.assert_allclose(found.attribution[0], theirs[name], atol=1e-5 * scale)


def clipped(variables, images, relu):
    """Two ReLUs, the second of which gets gradients of both signs."""
    hidden = relu(convolved_by(images - 0.5, variables["first"]))
    return models.two_classes(jnp.tensordot(relu(hidden - 0.1), variables["head"], 1))


def test_guided_backprop_finds_relus_however_they_are_written_and_needs_one():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 1, 4)).astype(np.float32)
    variables = {"first": kernel, "head": np.array([1, -1, 2, -2], np.float32)}
    apply = functools.partial(clipped, relu=lambda x: jnp.maximum(jnp.zeros_like(x), x))
    written = run(GuidedBackprop(), pictures(1), problem_of(apply, variables))
    apply = functools.partial(clipped, relu=jax.nn.relu)
    expected = run(GuidedBackprop(), pictures(1), problem_of(apply, variables))
    assert written.scores["num_relus"] == expected.scores["num_relus"] == 2
    np.testing.assert_allclose(written.attribution, expected.attribution, rtol=1e-5)
    smooth = functools.partial(clipped, relu=jax.nn.gelu)
    with pytest.raises(ModelError, match="the derivative of ReLUs and the model has none"):
        run(GuidedBackprop(), pictures(1), problem_of(smooth, variables))
