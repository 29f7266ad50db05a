"""Class activation maps of a network of one hidden layer, against their formulas in NumPy."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import ndimage

import jaxseg_xai
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import EXPLAINERS, runner
from tests.explainers import models
from tests.support import batch_of, problem_of

REFERENCE = Path(__file__).parents[1] / "reference/cams.npz"
#: No multiple of the windows of pooling.
SIZE, CHANNELS = (7, 8), 5


@functools.cache
def network():
    """Logits relu(image * kernel) . head: a channel's gradient is its weight in the head."""
    rng = np.random.default_rng(3)
    variables = {
        "kernel": rng.normal(0, 0.5, (3, 3, 1, CHANNELS)).astype(np.float32),
        "head": np.array([1.0, -0.7, 0.4, 1.5, -0.2], np.float32),
    }

    def apply(variables, images):
        features = jax.lax.conv_general_dilated(
            images,
            variables["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        logits = jax.nn.relu(features) @ variables["head"]
        return models.two_classes(logits - 0.3)

    return problem_of(apply, variables)


@functools.cache
def example():
    """(image [*S, 1], channels A [*S, K], head [K], reference bool [*S])."""
    image = np.random.default_rng(4).uniform(size=(*SIZE, 1)).astype(np.float32)
    head = np.asarray(network().variables["head"])
    channels = features(image)
    reference = channels @ head > 0.3
    assert 5 < reference.sum() < reference.size - 5
    return image, channels, head, reference


def features(image):
    kernels = np.moveaxis(np.asarray(network().variables["kernel"])[:, :, 0], -1, 0)
    found = [ndimage.correlate(image[..., 0], kernel, mode="constant") for kernel in kernels]
    return np.maximum(np.stack(found, axis=-1), 0)


def run(name, **settings):
    image = example()[0]
    batch = batch_of(network(), image[None])
    np.testing.assert_array_equal(batch.targets.reference[0], example()[-1])
    method = EXPLAINERS.get(name)(**settings)
    found = runner.explain(method, network(), batch, mesh=device_mesh(jax.devices()[:1]))
    _, channels, head, reference = example()
    explained = settings.get("outcome", method.outcome) == "summed_logits"
    if explained:
        expected = (channels @ head - 0.3)[reference].sum()
        assert found.scores["outcome"][0] == pytest.approx(expected, rel=1e-5)
    return np.asarray(found.attribution[0])


def summed(channels, weights):
    return np.maximum((channels * weights).sum(-1), 0)


def gradient():
    """G [*S, K] of the summed logits of the reference."""
    *_, head, reference = example()
    return reference[..., None] * head


def test_grad_cam():
    _, channels, *_ = example()
    expected = summed(channels, gradient().mean((0, 1)))
    np.testing.assert_allclose(run("grad_cam"), expected, atol=1e-6)


def test_grad_cam_plus_plus():
    _, channels, *_ = example()
    slope, total = gradient(), channels.sum((0, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = slope**2 / (2 * slope**2 + total * slope**3)
    weights = (np.where(slope != 0, alpha, 0) * np.maximum(slope, 0)).sum((0, 1))
    np.testing.assert_allclose(run("grad_cam_plus_plus"), summed(channels, weights), rtol=1e-5)


def test_hires_cam_adds_up_to_the_outcome():
    """The rest of the model is linear: without max(0, .) the sum is the outcome and its bias."""
    _, channels, _, reference = example()
    found = run("hires_cam")
    np.testing.assert_allclose(found, summed(channels, gradient()), atol=1e-6)
    assert (found[~reference] == 0).all()


def test_layer_cam():
    _, channels, *_ = example()
    expected = summed(channels, np.maximum(gradient(), 0))
    np.testing.assert_allclose(run("layer_cam"), expected, atol=1e-6)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_seg_xres_cam(pool):
    _, channels, *_ = example()
    slope, pooled = gradient(), np.zeros((*SIZE, CHANNELS))
    for row in range(0, SIZE[0], 3):
        for column in range(0, SIZE[1], 3):
            window = np.index_exp[row : row + 3, column : column + 3]
            pooled[window] = getattr(slope[window], pool)((0, 1))
    found = run("seg_xres_cam", window=3, pool=pool)
    np.testing.assert_allclose(found, summed(channels, pooled), atol=1e-6)


def test_seg_xres_cam_lies_between_hires_cam_and_grad_cam():
    same = run("seg_xres_cam", window=1)
    np.testing.assert_allclose(same, run("hires_cam"), atol=1e-6)
    one = run("seg_xres_cam", window=8, pool="mean")
    np.testing.assert_allclose(one, run("grad_cam"), atol=1e-6)


@pytest.mark.parametrize("centred", [False, True])
def test_eigen_cam_is_the_first_principal_component(centred):
    _, channels, *_ = example()
    matrix = channels.reshape(-1, CHANNELS).astype(np.float64)
    matrix = matrix - matrix.mean(0) * centred
    component = matrix @ np.linalg.svd(matrix, full_matrices=False)[2][0]
    component *= np.sign((component**3).sum())
    expected = np.maximum(component, 0).reshape(SIZE)
    np.testing.assert_allclose(run("eigen_cam", centred=centred), expected, atol=1e-5)


def test_eigen_cam_of_fewer_pixels_than_channels():
    from jaxseg_xai.explainers.cam.eigen_cam import _first_component

    matrix = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
    found, turned = np.asarray(_first_component(matrix)), np.linalg.svd(matrix)[2][0]
    expected = matrix @ turned
    np.testing.assert_allclose(abs(found), abs(expected), rtol=1e-5)
    assert abs(found @ expected) == pytest.approx(expected @ expected, rel=1e-5)


def theirs():
    """What pytorch-grad-cam found, and the network on which (weights as PyTorch has them)."""
    return dict(np.load(REFERENCE))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("grad_cam", {}),
        ("grad_cam_plus_plus", {}),
        ("hires_cam", {}),
        ("layer_cam", {}),
        ("score_cam", {"outcome": "summed_logits"}),
    ],
)
def test_maps_are_those_of_pytorch_grad_cam(name, settings):
    """Shifted and scaled to [0, 1], as theirs are."""
    found = theirs()
    problem, batch = models.frozen(found)
    method = EXPLAINERS.get(name)(**settings)
    program, layer = method.find(problem.segmenter, problem.variables, batch.images.shape[1:])
    assert program.shapes[layer.value].shape[-1] == 6
    result = runner.explain(method, problem, batch, mesh=device_mesh(jax.devices()[:1]))
    cam = np.asarray(result.attribution[0])
    scaled = (cam - cam.min()) / (cam.max() - cam.min())
    np.testing.assert_allclose(scaled, found[name], atol=2e-5)


def dice(image):
    _, _, head, reference = example()
    segment = features(image) @ head > 0.3
    both = segment.sum() + reference.sum()
    return 200 * (segment & reference).sum() / both if both else 0.0


@pytest.mark.parametrize("weights", ["softmax", "increase"])
@pytest.mark.parametrize("batch_size", [2, 8])
def test_score_cam(weights, batch_size):
    image, channels, *_ = example()
    low, high = channels.min((0, 1)), channels.max((0, 1))
    masks = (channels - low) / (high - low)
    found = np.array([dice(image * masks[..., k, None]) for k in range(CHANNELS)])
    found = found - dice(0 * image)
    assert len(set(found)) > 2
    if weights == "softmax":
        found = np.exp(found / 100) / np.exp(found / 100).sum()
    expected = summed(channels, found)
    result = run("score_cam", weights=weights, batch_size=batch_size)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outcome", ["summed_logits", "dice"])
def test_ablation_cam(outcome):
    _, channels, head, reference = example()

    def value(features):
        logits = features @ head - 0.3
        segment = logits > 0
        both = segment.sum() + reference.sum()
        hard = 200 * (segment & reference).sum() / both
        return logits[reference].sum() if outcome == "summed_logits" else hard

    whole, lost = value(channels), []
    for k in range(CHANNELS):
        without = channels.copy()
        without[..., k] = 0
        lost.append((whole - value(without)) / abs(whole))
    assert len(set(lost)) == CHANNELS
    found = run("ablation_cam", outcome=outcome, batch_size=2)
    np.testing.assert_allclose(found, summed(channels, np.array(lost)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", ["brain", "brain-hrnet", "brain-unext", "brain-segformer"])
def test_in_the_layer_that_a_family_names_something_speaks_for_the_class(model):
    """Of SegFormer's coarsest features no map had anything in it."""
    slices = jaxseg_xai.open_dataset("brain", "test")
    (found,) = jaxseg_xai.explain(
        model, [slices[8].image], "white matter", "grad_cam", target="prediction", progress=False
    )
    assert found.attribution.max() > 0
