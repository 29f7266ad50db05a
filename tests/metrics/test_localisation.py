"""Metrics that compare a map with a known region, and those of the map alone."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxseg_xai.core.types import Explanation
from jaxseg_xai.metrics import METRICS
from jaxseg_xai.metrics.runner import score_by_all
from tests.explainers.models import bright_pixels
from tests.support import problem_of, target_of

IMAGE = np.ones((4, 4, 1), np.float32)
KNOWN = np.zeros((4, 4), bool)
KNOWN[0, :3] = True
NAMES = (
    *("pointing_game", "energy_inside", "relevance_rank_accuracy", "iou_at_area", "auroc"),
    *("sparseness", "complexity"),
)


def judged(attribution, known=KNOWN):
    """Headlines of all of them."""
    problem = problem_of(bright_pixels)
    explanation = Explanation(attribution=np.asarray(attribution, np.float32), status=np.int32(0))
    metrics = {name: METRICS.get(name)() for name in NAMES}
    asked = (IMAGE, target_of(problem, IMAGE), np.zeros(2, np.uint32), explanation, known, None, {})
    found = score_by_all(metrics, problem, 1.0, *asked)
    return {name: float(found[name][metrics[name].meta.headline]) for name in NAMES}


def test_by_hand():
    relevance = np.zeros((4, 4))
    relevance[0, 0], relevance[0, 1], relevance[3, 3], relevance[2, 2] = 5, 2, 3, -9
    found = judged(relevance)
    assert found["pointing_game"] == 1
    # Of the three largest (5, 3, 2) two lie inside.
    assert found["relevance_rank_accuracy"] == pytest.approx(2 / 3)
    assert found["iou_at_area"] == pytest.approx(2 / 4)
    assert found["auroc"] == pytest.approx(roc_auc_score(KNOWN.ravel(), relevance.ravel()))
    share = np.array([5, 2, 3, 9]) / 19
    assert found["complexity"] == pytest.approx(-np.sum(share * np.log(share)))
    ascending = np.sort(np.abs(relevance).ravel())
    weights = 2 * np.arange(1, 17) - 17
    assert found["sparseness"] == pytest.approx(weights @ ascending / (16 * 19))
    assert judged(np.roll(relevance, 1, axis=0))["pointing_game"] == 0


def test_equal_pixels_count_by_their_share():
    relevance = np.zeros((4, 4))
    relevance[0] = 1  # four pixels, three of them inside
    found = judged(relevance)
    assert found["pointing_game"] == 0.75
    assert found["relevance_rank_accuracy"] == pytest.approx(0.75)
    assert found["auroc"] == pytest.approx(roc_auc_score(KNOWN.ravel(), relevance.ravel()))


def test_a_constant_map():
    found = judged(np.full((4, 4), 0.5))
    assert np.isnan(found["pointing_game"])
    assert found["relevance_rank_accuracy"] == pytest.approx(3 / 16)
    assert found["auroc"] == 0.5
    assert found["sparseness"] == pytest.approx(0, abs=1e-6)
    assert found["complexity"] == pytest.approx(np.log(16))
    zeros = judged(np.zeros((4, 4)))
    assert np.isnan([zeros["sparseness"], zeros["complexity"], zeros["energy_inside"]]).all()


def test_one_pixel_has_it_all():
    relevance = np.zeros((4, 4))
    relevance[1, 1] = 2
    found = judged(relevance)
    assert found["complexity"] == 0
    assert found["sparseness"] == pytest.approx(15 / 16)


def test_known_regions_without_pixels_and_without_an_outside():
    relevance = np.random.default_rng(0).random((4, 4))
    nowhere, everywhere = judged(relevance, ~KNOWN & KNOWN), judged(relevance, KNOWN | ~KNOWN)
    assert np.isnan([nowhere[name] for name in NAMES[2:5]]).all()
    assert np.isnan([nowhere["pointing_game"], nowhere["energy_inside"]]).all()
    assert np.isnan(everywhere["auroc"])
    assert everywhere["relevance_rank_accuracy"] == everywhere["iou_at_area"] == 1
