"""Sensitivity and randomisation of methods whose dependence on image and model is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import EXPLAINERS, Explainer, Meta, Parts, explain
from jaxseg_xai.metrics import METRICS, score_all
from jaxseg_xai.metrics.robustness.randomisation import layer_numbers
from jaxseg_xai.ops.similarity import ssim
from tests.contracts.nets import network
from tests.support import batch_of, problem_of

COUNT = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Itself(Explainer):
    """The image: independent of the model, and moving as the image does."""

    name = "itself"
    meta = Meta(unit="", signed=True)

    def explain_one(self, problem, example):
        return Parts(attribution=example.image[..., 0])


def judged(method, problem, images, metrics):
    batch, mesh = batch_of(problem, images), device_mesh()
    found = explain(method, problem, batch, mesh=mesh)
    options = {"meta": method.meta, "mesh": mesh, "explainer": method}
    return score_all(metrics, problem, batch, found, **options)


@pytest.fixture(scope="module")
def net():
    return network(2)


def test_a_map_that_is_the_image(net):
    images = np.random.default_rng(0).random((COUNT, 8, 8, 1), np.float32)
    metrics = {
        "max_sensitivity": METRICS.get("max_sensitivity")(num_again=3, radius=0.1),
        "randomisation": METRICS.get("randomisation")(num_stages=2),
    }
    found = judged(Itself(), net, images, metrics)
    # |u| / |x| with u uniform in +-0.1: its norm is about 0.1 sqrt(64 / 3), and below 0.1 sqrt(64).
    size = np.linalg.norm(images.reshape(COUNT, -1), axis=1)
    share = np.asarray(found["max_sensitivity"]["sensitivity"]) * size / 0.8
    assert (share > 1 / 3**0.5 * 0.95).all()
    assert (share < 0.8).all()
    for values in found["randomisation"].values():
        np.testing.assert_allclose(values, 1, atol=1e-5)


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_a_map_of_the_model_changes_with_it(net, order):
    images = np.random.default_rng(0).random((COUNT, 8, 8, 1), np.float32)
    metrics = {"it": METRICS.get("randomisation")(num_stages=2, order=order)}
    found = judged(EXPLAINERS.get("input_x_gradient")(), net, images, metrics)["it"]
    assert (np.asarray(found["curve_rank_correlation"]) < 0.99).all()
    assert (np.asarray(found["rank_correlation"]) < 0.9).all()
    curve = np.asarray(found["curve_ssim"])
    np.testing.assert_allclose(found["ssim"], curve.mean(axis=1), atol=1e-6)


def test_layers_count_from_the_output_and_are_shuffled_in_that_order(net):
    layers = dict(
        zip(jax.tree.leaves(_names(net.variables)), layer_numbers(net, (8, 8, 1)), strict=True)
    )
    assert layers == {"first bias": 1, "first kernel": 1, "head bias": 0, "head kernel": 0}
    batch = batch_of(net, np.zeros((COUNT, 8, 8, 1), np.float32))
    metric = METRICS.get("randomisation")(num_stages=2)
    for number, changed in ((0, {"head"}), (1, {"head", "first"})):
        other, _ = metric.changed(net, batch, jnp.int32(number))
        assert _differing(net.variables, other.variables) == changed
    alone = dataclasses.replace(metric, order="independent")
    other, _ = alone.changed(net, batch, jnp.int32(1))
    assert _differing(net.variables, other.variables) == {"first"}
    # The values are the same in another order.
    one, two = (np.sort(x.variables["first"]["kernel"].ravel()) for x in (net, other))
    np.testing.assert_array_equal(one, two)


def test_one_flat_container_has_a_layer_a_tensor():
    problem = problem_of(
        lambda w, x: (x * w["a"] * w["b"][0])[..., :1] * jnp.ones(2),
        {"a": np.ones(1, np.float32), "b": np.ones(3, np.float32)},
    )
    assert layer_numbers(problem, (4, 4, 1)) == [1, 0]


def test_similarity():
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.random((9, 10)).astype(np.float32)) for _ in range(2))
    assert ssim(a, a) == pytest.approx(1)
    assert abs(float(ssim(a, b))) < 0.5
    assert ssim(a, 1 - a) < 0
    own = np.zeros((9, 10), bool)
    own[:8, :9] = True
    np.testing.assert_allclose(ssim(a, b, own), ssim(a[:8, :9], b[:8, :9]), atol=1e-6)
    assert np.isnan(ssim(a, b, ~own))


def _names(variables):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: " ".join(str(key.key) for key in path), variables
    )


def _differing(one, other):
    return {
        name
        for name in one
        if any(np.any(np.asarray(one[name][key]) != other[name][key]) for key in one[name])
    }
