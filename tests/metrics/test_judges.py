"""Our metrics against what Quantus and Captum say, frozen by `benchmarks.agree.judges`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.agree.judges import PATH, metrics, problem_and_batch
from jaxseg_xai.core.types import Explanation
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import EXPLAINERS, explain
from jaxseg_xai.metrics import score_all
from jaxseg_xai.ops.imputation import impute_linearly

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def frozen():
    with np.load(ROOT / PATH) as file:
        return dict(file)


@pytest.fixture(scope="module")
def ours(frozen):
    """Of the frozen maps, but for max-sensitivity: that explains again."""
    problem, batch = problem_and_batch(frozen)
    method = EXPLAINERS.get("input_x_gradient")(outcome="mean_probability")
    mesh = device_mesh()
    found = explain(method, problem, batch, mesh=mesh)
    np.testing.assert_allclose(found.attribution / 100, frozen["maps"], atol=1e-6)
    maps = Explanation(attribution=frozen["maps"] * 100, status=np.zeros(4, np.int32))
    options = {"meta": method.meta, "mesh": mesh, "known": frozen["known"], "explainer": method}
    return score_all(metrics(), problem, batch, maps, **options)


@pytest.mark.parametrize(
    ("name", "score", "tolerance"),
    [
        ("pointing_game", "hit", 0),
        ("relevance_rank_accuracy", "accuracy", 1e-6),
        ("auroc", "auroc", 1e-6),
        ("sparseness", "gini", 1e-4),
        ("complexity", "entropy", 1e-4),
        ("max_sensitivity", "sensitivity", 1e-4),
    ],
)
def test_the_same_numbers(frozen, ours, name, score, tolerance):
    np.testing.assert_allclose(ours[name][score], frozen[f"of_{name}"], rtol=tolerance)


def test_infidelity_in_points(frozen, ours):
    found = np.asarray(ours["infidelity"]["infidelity"]) / 100**2
    np.testing.assert_allclose(found, frozen["of_infidelity"], rtol=1e-4)


def test_pixel_flipping_begins_with_the_whole_image(frozen, ours):
    curve = np.asarray(ours["pixel_flipping"]["curve"])
    np.testing.assert_allclose(curve[:, 1:], frozen["of_pixel_flipping"], rtol=1e-4)


def test_irof_begins_with_the_whole_image_and_counts_shares(frozen, ours):
    """Quantus adds up from the first superpixel on, by trapezoids of the width 1."""
    curve = np.asarray(ours["irof"]["curve"])
    number = curve.shape[1] - 1
    area = (1 - np.asarray(ours["irof"]["irof"])) * number - (1 + curve[:, 1]) / 2
    np.testing.assert_allclose(number - area, frozen["of_irof"], rtol=1e-4)


def test_imputation(frozen):
    found = jax.vmap(impute_linearly)(jnp.asarray(frozen["images"]), jnp.asarray(frozen["known"]))
    np.testing.assert_allclose(found[..., 0], frozen["filled"], rtol=1e-4)
