import numpy as np
import pytest

from jaxseg_xai.core.types import Explanation, Status
from jaxseg_xai.metrics.localisation.energy_inside import EnergyInside
from jaxseg_xai.metrics.runner import score_example
from tests.explainers.models import bright_pixels
from tests.support import problem_of, target_of

IMAGE = np.zeros((4, 4, 1), np.float32)
IMAGE[:2] = 1


def rated(attribution, known=None):
    problem = problem_of(bright_pixels)
    target = target_of(problem, IMAGE)
    explanation = Explanation(attribution=attribution, status=np.int32(Status.OK))
    known = target.segment if known is None else known
    image_id = np.zeros(2, np.uint32)
    return score_example(EnergyInside(), problem, 1.0, IMAGE, target, image_id, explanation, known)


def test_by_hand():
    attribution = np.zeros((4, 4), np.float32)
    attribution[0, 0], attribution[3, 3], attribution[1, 1] = 3, 1, -7
    found = rated(attribution)
    assert found["energy_inside"] == pytest.approx(3 / 4)
    assert found["share_known"] == 0.5
    cause = np.zeros((4, 4), bool)
    cause[3, 3] = True
    assert rated(attribution, cause)["energy_inside"] == pytest.approx(1 / 4)


def test_a_map_without_anything_positive_has_none():
    assert np.isnan(rated(np.full((4, 4), -1.0, np.float32))["energy_inside"])


def test_an_even_map_gets_the_share_of_the_area():
    found = rated(np.full((4, 4), 0.3, np.float32))
    assert found["energy_inside"] == pytest.approx(float(found["share_known"]))
