"""Rounding stability of maps whose dependence on rounding is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Explainer, Meta, Parts, explain
from jaxseg_xai.metrics import score
from jaxseg_xai.metrics.robustness.rounding_stability import RoundingStability
from jaxseg_xai.ops.ranking import overlaps, rank_correlations, ranks
from tests.explainers.models import bright_pixels
from tests.support import batch_of, problem_of

COUNT = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Amplified(Explainer):
    """1 where bright, else (x - 0.5) * gain: of x = 0.5 rounding alone, as large as `gain` says."""

    name = "amplified"
    meta = Meta(unit="", signed=True)
    gain: float = 2.0**21
    broken: float = 0.0

    def explain_one(self, problem, example):
        image = example.image[..., 0]
        return Parts(
            attribution=jnp.where(image > 0.7, 1.0, (image - 0.5) * self.gain),
            finite=image[0, 0] != self.broken,
        )


def judged(images, method, metric, status=None):
    problem, mesh = problem_of(bright_pixels), device_mesh()
    batch = batch_of(problem, images)
    found = explain(method, problem, batch, mesh=mesh)
    if status is not None:
        found = dataclasses.replace(found, status=status)
    return score(metric, problem, batch, found, meta=method.meta, mesh=mesh, explainer=method)


def test_a_map_that_rounding_makes_and_one_that_it_leaves_alone():
    images = np.full((COUNT, 4, 5, 1), 0.5, np.float32)
    images[:, 0] = 0.8  # 1 in every map
    images[0, 1:] = 0.6  # 0.1 * 2^21, whatever rounding does
    found = judged(images, Amplified(), RoundingStability(num_again=3))
    assert found["iou"][0] == 1
    # The map itself is 0 in 15 of 20 pixels, where the moved ones are 1 or -1 by chance.
    steady, moved = (np.asarray(found["difference"])[part] for part in (slice(1), slice(1, None)))
    assert (steady < 2).all()
    np.testing.assert_allclose(moved, 15 / 20, atol=0.2)
    assert (np.asarray(found["iou"][1:]) < 0.7).all()
    assert (np.asarray(found["rank_correlation"][1:]) < 0.9).all()
    # Images of other names move otherwise.
    assert len(set(np.asarray(found["rank_correlation"][1:]))) > 1


def test_nothing_moves_without_amplification():
    images = np.random.default_rng(0).random((COUNT, 4, 5, 1), np.float32)
    found = judged(images, Amplified(gain=1.0), RoundingStability(num_again=2))
    np.testing.assert_array_equal(found["iou"], 1)
    np.testing.assert_allclose(found["rank_correlation"], 1, atol=1e-5)
    assert (np.asarray(found["difference"]) < 2e-6).all()
    assert (np.asarray(found["difference"]) > 1e-8).all(), "but for rounding"


def test_what_fails_when_explained_again_has_no_stability():
    images = np.full((COUNT, 4, 5, 1), 0.8, np.float32)
    images[0, 0, 0] = 0.0  # the method calls it broken
    found = judged(images, Amplified(), RoundingStability(num_again=2), np.zeros(COUNT, np.int32))
    assert np.isnan(found["difference"][0])
    assert np.isfinite(found["difference"][1:]).all()
    none = judged(
        images, Amplified(), RoundingStability(num_again=2), np.full(COUNT, Status.EMPTY_REGION)
    )
    assert np.isnan(none["difference"]).all()


def test_ranks_and_their_correlation_are_those_of_scipy():
    rng = np.random.default_rng(1)
    maps = rng.integers(0, 5, (3, 6, 7)).astype(np.float32)  # many are equal
    np.testing.assert_array_equal(ranks(maps[0].ravel()), stats.rankdata(maps[0]))
    found = rank_correlations(jnp.asarray(maps))
    expected = stats.spearmanr(maps.reshape(3, -1), axis=1).statistic
    np.testing.assert_allclose(found, expected, atol=1e-6)
    own = rng.random((6, 7)) < 0.7
    found = rank_correlations(jnp.asarray(maps), own)
    expected = stats.spearmanr(maps[:, own], axis=1).statistic
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isnan(rank_correlations(jnp.stack([maps[0], np.ones((6, 7))]))[0, 1])


def test_overlaps_by_hand():
    regions = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    found = overlaps(jnp.asarray(regions))
    np.testing.assert_allclose(found, [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])
    assert found[0, 1] == pytest.approx(1 / 3)
