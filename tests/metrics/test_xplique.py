"""Our maps and metrics against those of Xplique, frozen by `benchmarks.agree.xplique_maps`."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.agree import judges
from benchmarks.agree.xplique_maps import BLOCK, NOISE, PATH, RUNS, SAMPLES, mu_fidelity, veils
from jaxseg_xai.core.types import Explanation
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import EXPLAINERS, explain
from jaxseg_xai.metrics import METRICS, score_all

ROOT = Path(__file__).parents[2]
OUTCOME = {"outcome": "mean_probability"}
VEILS = ("average_drop", "average_increase", "average_gain")


@pytest.fixture(scope="module")
def theirs():
    with np.load(ROOT / PATH) as file:
        return dict(file)


@pytest.fixture(scope="module")
def frozen():
    with np.load(ROOT / judges.PATH) as file:
        return dict(file)


def map_of(name, frozen, **settings):
    """As shares of 1, where ours are in points."""
    problem, batch = judges.problem_and_batch(frozen)
    method = EXPLAINERS.get(name)(**OUTCOME, **settings)
    return np.asarray(explain(method, problem, batch, mesh=device_mesh()).attribution) / 100


@pytest.mark.parametrize(
    ("name", "settings", "tolerance"),
    [
        ("occlusion", {"block_size": BLOCK, "baseline": "zero"}, 1e-5),
        ("input_x_gradient", {}, 1e-5),
        ("guided_backprop", {}, 1e-5),
        # A sum along a way with bends (of ReLUs): what is left halves when the nodes double.
        ("integrated_gradients", {"num_nodes": 1000}, 5e-4),
        ("integrated_gradients", {"num_nodes": 2000}, 2.5e-4),
    ],
)
def test_the_same_maps(theirs, frozen, name, settings, tolerance):
    found = map_of(name, frozen, **settings)
    np.testing.assert_allclose(found, theirs[name], atol=tolerance * np.abs(theirs[name]).max())


@pytest.mark.parametrize(
    ("name", "of_theirs", "unit"), [("smooth_grad", "SmoothGrad", 1), ("vargrad", "VarGrad", 0.01)]
)
def test_what_both_draw_is_within_the_standard_errors(theirs, frozen, name, of_theirs, unit):
    number = 1000
    found = map_of(name, frozen, noise=NOISE, num_samples=number)
    mean, error = theirs[f"{of_theirs}_mean"], theirs[f"{of_theirs}_error"]
    # Ours is a mean of fewer samples than theirs.
    far = (found * unit - mean) / (error * np.sqrt(1 + RUNS * SAMPLES / number))
    assert np.sqrt(np.mean(far**2)) < 1.2  # 1 were they drawn from the same
    assert np.mean(np.abs(far) > 3) < 0.02


@pytest.mark.parametrize("veiled", [True, False])
def test_the_same_metrics(theirs, frozen, veiled):
    problem, batch = judges.problem_and_batch(frozen)
    if veiled:
        ours = {name: METRICS.get(name)(**OUTCOME) for name in VEILS}
    else:
        ours = {name: METRICS.get(name)() for name in ("complexity", "sparseness")}
        ours["mu_fidelity"] = mu_fidelity()
    judged = veils(frozen["maps"]) if veiled else frozen["maps"]
    maps = Explanation(attribution=judged * 100, status=np.zeros(judges.COUNT, np.int32))
    meta = EXPLAINERS.get("input_x_gradient").meta
    found = score_all(ours, problem, batch, maps, meta=meta, mesh=device_mesh())
    for name, metric in ours.items():
        score = found[name][metric.meta.headline]
        np.testing.assert_allclose(score, theirs[name], rtol=1e-4, atol=1e-6)
