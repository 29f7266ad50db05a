"""Deletion of a model that sees each pixel by itself: every point of the curve is known."""

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Meta
from jaxseg_xai.metrics import score
from jaxseg_xai.metrics.faithfulness.deletion import Deletion
from jaxseg_xai.metrics.runner import score_example
from tests.explainers.models import bright_pixels
from tests.support import batch_of, problem_of, target_of

#: 8 bright pixels of 16: 8 of logit 10, 8 of logit -10.
IMAGE = np.zeros((4, 4, 1), np.float32)
IMAGE[:2] = 1


def rated(metric, attribution, image=IMAGE):
    problem = problem_of(bright_pixels)
    target = target_of(problem, image)
    explanation = Explanation(attribution=attribution, status=np.int32(Status.OK))
    ids, known = np.zeros(2, np.uint32), target.segment
    return score_example(metric, problem, 1.0, image, target, ids, explanation, known)


def dice_left(num_left):
    """Of the segment's 8 pixels, `num_left` are left."""
    return 2 * num_left / (num_left + 8)


def test_the_best_and_the_worst_order():
    metric = Deletion(num_steps=4, block_size=1)
    best = rated(metric, IMAGE[..., 0])
    curve = [dice_left(left) for left in (8, 4, 0, 0, 0)]
    np.testing.assert_allclose(best["curve"], curve, atol=1e-5)
    np.testing.assert_allclose(best["auc"], np.trapezoid(curve, dx=1 / 4), atol=1e-5)
    worst = rated(metric, -IMAGE[..., 0])
    curve = [dice_left(left) for left in (8, 8, 8, 4, 0)]
    np.testing.assert_allclose(worst["curve"], curve, atol=1e-5)
    # Logits of 10 and -10: soft Dice is nearly the hard one.
    np.testing.assert_allclose(worst["curve_soft"], curve, atol=1e-3)
    assert worst["auc_soft"] != worst["auc"]


def test_blocks_go_whole_and_ties_row_by_row():
    attribution = np.zeros((4, 4), np.float32)
    attribution[0, 3] = 1  # its block goes first, then the others in order
    found = rated(Deletion(num_steps=4, block_size=2), attribution)
    np.testing.assert_allclose(found["curve"], [dice_left(n) for n in (8, 4, 0, 0, 0)], atol=1e-5)
    # Three steps over four blocks: 0, 1, 2 and 4 of them.
    found = rated(Deletion(num_steps=3, block_size=2), attribution)
    np.testing.assert_allclose(found["curve"], [dice_left(n) for n in (8, 4, 0, 0)], atol=1e-5)
    area = np.trapezoid(np.asarray(found["curve"]), [0, 1 / 4, 2 / 4, 1])
    np.testing.assert_allclose(found["auc"], area, atol=1e-6)


def test_blocks_cut_off_at_the_border_count_by_their_mean():
    image = np.ones((3, 3, 1), np.float32)
    attribution = np.full((3, 3), 1.0, np.float32)
    attribution[2, 2] = 1.5  # a block of one pixel, less in sum than the block of four
    found = rated(Deletion(num_steps=4, block_size=2), attribution, image)
    assert found["curve"][1] == pytest.approx(2 * 8 / (8 + 9))


def test_the_mean_colour_as_a_baseline():
    image = IMAGE + 0.2  # 0.2 and 1.2, mean 0.7: a deleted pixel is bright
    found = rated(Deletion(num_steps=2, block_size=1, baseline="mean"), IMAGE[..., 0], image)
    np.testing.assert_allclose(found["curve"], [1, 1, 2 * 8 / (8 + 16)], atol=1e-5)


def test_bad_settings():
    problem = problem_of(bright_pixels)
    batch = batch_of(problem, np.stack([IMAGE] * 4))
    explanations = Explanation(
        attribution=np.zeros((4, 4, 4), np.float32), status=np.zeros(4, np.int32)
    )
    for settings, message in (
        ({"num_steps": 0}, "deletion.num_steps is 0; it must be at least 1"),
        ({"baseline": "black"}, "deletion.baseline is 'black'; use zero, mean"),
    ):
        with pytest.raises(ConfigError, match=message):
            score(
                Deletion(**settings),
                problem,
                batch,
                explanations,
                meta=Meta(unit="", signed=False),
                mesh=device_mesh(),
            )
