"""Integrated gradients and Grad-CAM: what both have in common, and each by itself."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, ModelError
from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Batch, GradCam, IntegratedGradients, explain
from jaxseg_xai.models.predict import from_nnx
from tests.explainers import models, test_components
from tests.explainers.test_components import SIZE

METHODS = [IntegratedGradients(num_nodes=3), GradCam()]


@functools.cache
def unet(**options):
    return from_nnx(test_components.unet(), stride=2, **options)


def pictures(count, size=(SIZE, SIZE)):
    """Bright on the left, where the U-Net predicts class 1."""
    return test_components.pictures(count)[:, : size[0], : size[1]]


def make_batch(images):
    region = np.ones(images.shape[:3], bool)
    return Batch(
        images=images,
        targets=SegmentTarget(
            class_index=np.ones(len(images), np.int32), region=region, reference=region & False
        ),
        valid=region[:, 0, 0],
        image_ids=np.arange(len(images), dtype=np.uint32),
        pool=None,
        key=jax.random.key(0),
    )


def run(method, batch, model=None, devices=1):
    predict, variables = model or unet()
    mesh = device_mesh(jax.devices()[:devices])
    found = explain(method, variables, batch, predict=predict, mesh=mesh)
    chex.assert_tree_all_finite((found.attribution, found.maps))
    return found


def one(batch, i=0):
    return batch.images[i], jax.tree.map(lambda leaf: leaf[i], batch.targets)


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
    batch = make_batch(pictures(1))
    variables = {"sum": np.ones((1, 1, 1, 1), np.float32), "head": np.full(1, 2, np.float32)}
    found = run(IntegratedGradients(num_nodes=1), batch, (convolved, variables))
    np.testing.assert_allclose(found.attribution[0], 2 * batch.images[0, ..., 0], rtol=1e-6)
    assert found.scores["area_target"] == SIZE**2
    assert found.scores["outcome"][0] == pytest.approx(2 * batch.images.sum(), rel=1e-5)
    assert found.scores["baseline_outcome"] == 0
    assert found.scores["completeness_gap"] < 1e-2


def test_integrated_gradients_add_up_with_more_nodes():
    found = [
        run(IntegratedGradients(num_nodes=n), make_batch(pictures(1)), (saturating, None))
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
    found = run(GradCam(), make_batch(images), (convolved, variables))
    # Logits 3 x - x: class 1 where the image is bright, 16 pixels.
    assert found.scores["area_target"] == 16
    share = 16 / SIZE**2
    expected = np.maximum(share * (3 * images - images), 0)[0, ..., 0]
    np.testing.assert_allclose(found.attribution[0], expected, atol=1e-6)


def test_grad_cam_looks_at_the_bottleneck_by_itself():
    predict, variables = unet()
    for layer, name in (("", "encoder/1/conv2"), ("head", "head")):
        _, site = GradCam(layer=layer).find(predict, variables, (SIZE, SIZE, 1), np.float32)
        assert site.name == name
    found = run(GradCam(), make_batch(pictures(4)))
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
    program, site = GradCam().find(excited, variables, (SIZE, SIZE, 1), np.float32)
    assert program.shapes[site.value].shape == (1, SIZE, SIZE, 2)


def test_grad_cam_of_the_head_is_its_logits_times_the_share_explained():
    batch = make_batch(pictures(4))
    predict, variables = unet()
    z = np.asarray(jax.jit(predict)(variables, batch.images))[..., 1]
    share = (z > 0).mean((1, 2), keepdims=True)
    assert ((share > 0) & (share < 1)).all()
    found = run(GradCam(layer="head"), batch)
    np.testing.assert_allclose(found.attribution, np.maximum(share * z, 0), atol=1e-5)


def test_grad_cam_of_images_that_the_model_pads():
    """The map is that of the padded image, cut."""
    odd = pictures(1, (SIZE - 3, SIZE - 1))
    found = run(GradCam(), make_batch(odd), unet(pad="edge"))
    batch = make_batch(np.pad(odd, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge"))
    batch.targets.region[:, SIZE - 3 :] = False
    batch.targets.region[:, :, SIZE - 1 :] = False
    whole = run(GradCam(), batch)
    expected = whole.attribution[:, : SIZE - 3, : SIZE - 1]
    np.testing.assert_allclose(found.attribution, expected, atol=1e-5)
    assert found.attribution.shape == (1, SIZE - 3, SIZE - 1)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_alone_and_on_any_number_of_devices(method):
    batch = make_batch(pictures(4))
    together = run(method, batch, devices=4)
    assert len(together.attribution.sharding.device_set) == 4
    chex.assert_trees_all_close(together, run(method, batch), atol=1e-4)
    predict, variables = unet()
    alone = jax.jit(functools.partial(method.explain, predict))
    for i in (0, 3):
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], together),
            alone(variables, *one(batch, i)),
            atol=1e-4,
        )


@pytest.mark.parametrize("method", METHODS)
def test_statuses_side_by_side(method):
    batch = make_batch(pictures(4))
    batch.targets.class_index[0] = 2  # there is no such class
    batch.targets.region[1] = False
    batch.images[2, 0, 0] = np.nan
    found = run(method, batch)
    assert found.status.tolist() == [
        Status.EMPTY_TARGET,
        Status.EMPTY_REGION,
        Status.NON_FINITE,
        Status.OK,
    ]
    assert not np.asarray(found.attribution)[:3].any()
    assert np.asarray(found.attribution)[3].any()
    for score in found.scores.values():
        assert np.isfinite(score).tolist() == [False, False, False, True]


@pytest.mark.parametrize("method", METHODS)
def test_only_the_region_is_explained_and_the_reference_is_not_looked_at(method):
    batch, other = make_batch(pictures(4)), make_batch(pictures(4))
    other.targets.region[:2, SIZE // 2 :] = False
    other.targets.reference[:] = True
    whole, found = run(method, batch), run(method, other)
    areas = [np.asarray(one.scores["area_target"]) for one in (found, whole)]
    assert (areas[0] < areas[1]).tolist() == [True, True, False, False]
    np.testing.assert_array_equal(found.attribution[2:], whole.attribution[2:])


def test_gradients_that_are_not_finite():
    def steep(variables, images):
        return models.two_classes(jnp.sqrt(images[..., 0] - images[..., 0]) + 1.0)

    found = run(IntegratedGradients(num_nodes=2), make_batch(pictures(1)), (steep, None))
    assert found.status.tolist() == [Status.NON_FINITE]


def test_a_layer_that_is_not_there_is_refused_and_the_others_are_listed():
    with pytest.raises(ConfigError, match=r"no layer conv9; the model has encoder/0/conv1, .*head"):
        run(GradCam(layer="conv9"), make_batch(pictures(1)))
    with pytest.raises(ModelError, match="no convolution"):
        run(GradCam(), make_batch(pictures(1)), (models.bright_pixels, None))


def test_layers_without_a_height_are_no_layers():
    def tokens(variables, images):
        features = images.reshape(len(images), -1, 1) @ variables["w"]
        return models.two_classes(features[..., 0].reshape(images.shape[:3]))

    with pytest.raises(ModelError, match="Grad-CAM needs a convolution"):
        run(GradCam(), make_batch(pictures(1)), (tokens, {"w": np.ones((1, 1), np.float32)}))


def test_values_out_of_range_are_named():
    with pytest.raises(ConfigError, match="num_nodes is 0"):
        IntegratedGradients(num_nodes=0).validate()
    for method in METHODS:
        method.validate()
        assert not method.needs_pool
