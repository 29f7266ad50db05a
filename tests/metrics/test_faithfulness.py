"""Metrics of faithfulness of models that see each pixel by itself: every value is known."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.types import Explanation, Status
from jaxseg_xai.metrics import METRICS
from jaxseg_xai.metrics.faithfulness.irof import block_side
from jaxseg_xai.metrics.runner import score_by_all
from jaxseg_xai.ops.imputation import impute_linearly
from tests.explainers.models import bright_pixels, two_classes
from tests.support import problem_of, target_of

#: 8 bright pixels of 16: 8 of logit 10, 8 of logit -10.
IMAGE = np.zeros((4, 4, 1), np.float32)
IMAGE[:2] = 1
#: Four corners of other colours, one of them bright.
CORNERS = np.kron([[0.9, 0.1], [0.3, 0.2]], np.ones((4, 4)))[..., None].astype(np.float32)


def judged(names, attribution, image=IMAGE, model=bright_pixels, reference=None, **settings):
    """Scores of metrics, by name; settings are those of all of them."""
    problem = problem_of(model)
    target = target_of(problem, image)
    if reference is not None:
        target = dataclasses.replace(target, reference=reference)
    explanation = Explanation(
        attribution=jnp.asarray(attribution, jnp.float32), status=np.int32(Status.OK)
    )
    metrics = {name: METRICS.get(name)(**settings) for name in names}
    asked = (image, target, np.zeros(2, np.uint32), explanation, target.segment, None, {})
    return score_by_all(metrics, problem, 1.0, *asked)


def test_curves_and_what_is_read_from_them():
    names = ("deletion", "insertion", "aopc", "abpc", "off_target_leakage", "pixel_flipping")
    found = judged(names, IMAGE[..., 0], num_steps=4, block_size=1)
    deleted = np.array([2 * left / (left + 8) for left in (8, 4, 0, 0, 0)])
    shown = deleted[::-1].copy()
    shown[1:] = [2 * left / (left + 8) for left in (4, 8, 8, 8)]
    np.testing.assert_allclose(found["deletion"]["curve"], deleted, atol=1e-5)
    np.testing.assert_allclose(found["insertion"]["curve"], shown, atol=1e-5)
    np.testing.assert_allclose(found["aopc"]["aopc"], np.mean(1 - deleted), atol=1e-5)
    areas = [np.trapezoid(curve, dx=1 / 4) for curve in (deleted, shown)]
    np.testing.assert_allclose(found["abpc"]["abpc"], areas[1] - areas[0], atol=1e-5)
    # The background grows over what is deleted: 8 pixels, then 12 and 16.
    leaked = [1 - 2 * 8 / (8 + area) for area in (8, 12, 16, 16, 16)]
    np.testing.assert_allclose(found["off_target_leakage"]["curve"], leaked, atol=1e-5)
    np.testing.assert_allclose(found["off_target_leakage"]["leakage"], leaked[1], atol=1e-5)
    np.testing.assert_allclose(found["pixel_flipping"]["curve"], [1, 0.5, 0, 0, 0], atol=1e-4)


def test_an_order_the_wrong_way_round_is_the_mirror_image():
    right = judged(("abpc", "insertion"), IMAGE[..., 0], num_steps=4, block_size=1)
    wrong = judged(("abpc", "deletion"), -IMAGE[..., 0], num_steps=4, block_size=1)
    np.testing.assert_allclose(wrong["abpc"]["abpc"], -right["abpc"]["abpc"], atol=1e-5)
    np.testing.assert_allclose(wrong["deletion"]["auc"], right["insertion"]["auc"], atol=1e-5)


def test_against_the_truth():
    truth = np.zeros((4, 4), bool)
    truth[:1] = True  # 4 of the 8 pixels
    found = judged(("deletion",), IMAGE[..., 0], reference=truth, num_steps=4, block_size=1)
    curve = [2 * 4 / (8 + 4), 0, 0, 0, 0]  # row by row: the true ones go first
    np.testing.assert_allclose(found["deletion"]["curve"], curve, atol=1e-5)


def test_regions_that_are_enough_and_that_are_not():
    names = ("sufficiency", "minimality")
    whole = judged(names, IMAGE[..., 0])
    assert whole["sufficiency"]["dice"] == pytest.approx(1)
    assert whole["minimality"]["area"] == 0.5
    part = IMAGE[..., 0].copy()
    part[0] = 0.4  # below half of the largest
    found = judged(names, part)
    assert found["sufficiency"]["dice"] == pytest.approx(2 * 4 / (4 + 8))
    assert found["sufficiency"]["dice_soft"] == pytest.approx(2 / 3, abs=1e-3)
    assert found["minimality"]["area"] == 0.25
    nothing = judged(names, -IMAGE[..., 0])
    assert np.isnan(nothing["sufficiency"]["dice"])
    assert np.isnan(nothing["minimality"]["area"])


def test_drop_increase_and_gain():
    names = ("average_drop", "average_increase", "average_gain")
    image = IMAGE - 0.25  # logits 5 and -15
    p = 1 / (1 + np.exp(-5.0))
    found = judged(names, image[..., 0] > 0.5, image)
    assert found["average_drop"]["drop"] == 0
    assert found["average_increase"]["increase"] == 0
    assert found["average_gain"]["gain"] == 0
    # Half of the reference under the veil: 4 pixels of logit -10.
    half = np.zeros((4, 4))
    half[0] = -3.0  # the size counts, not the sign
    found = judged(names, half, image)
    after = (p + 1 / (1 + np.exp(10.0))) / 2
    np.testing.assert_allclose(found["average_drop"]["drop"], (p - after) / p, atol=1e-5)
    constant = judged(names, 0 * half)
    assert all(np.isnan(value) for values in constant.values() for value in values.values())


def test_a_veil_that_helps():
    names = ("average_drop", "average_increase", "average_gain")
    half = np.zeros((4, 4))
    half[0] = 1

    def dark(_, images):
        return two_classes(1.25 - images[..., 0])  # all is segmented, with p or, under the veil, q

    p, q = 1 / (1 + np.exp(-0.25)), 1 / (1 + np.exp(-1.25))
    found = judged(names, half, np.ones((4, 4, 1), np.float32), dark)
    after = (4 * p + 12 * q) / 16
    assert found["average_drop"]["drop"] == 0
    assert found["average_increase"]["increase"] == 1
    np.testing.assert_allclose(found["average_gain"]["gain"], (after - p) / (1 - p), atol=1e-5)


def ramp(size):
    """Positive values, all different."""
    return (0.6 + 0.3 * np.random.default_rng(0).random((size, size, 1))).astype(np.float32)


def test_relevance_that_adds_up_to_the_drops():
    """A linear model: input x gradient is the drop of every pixel."""
    image = ramp(6)
    names = ("mu_fidelity", "infidelity")
    linear = lambda _, x: two_classes(3.0 * x[..., 0])  # noqa: E731
    settings = {"num_subsets": 12, "block_size": 2}
    found = judged(names, 3.0 * image[..., 0], image, linear, **settings)
    assert found["mu_fidelity"]["correlation"] == pytest.approx(1)
    assert found["infidelity"]["share"] == pytest.approx(0, abs=1e-6)
    wrong = judged(names, -3.0 * image[..., 0], image, linear, **settings)
    assert wrong["mu_fidelity"]["correlation"] == pytest.approx(-1)
    assert wrong["infidelity"]["share"] == 1
    zero = judged(names, 0 * image[..., 0], image, linear, **settings)
    assert np.isnan(zero["mu_fidelity"]["correlation"])
    assert zero["infidelity"]["share"] == 1


def test_relevance_that_is_twice_the_drops():
    """A quadratic model: input x gradient is twice the drop, and in proportion."""
    image = ramp(6)
    square = lambda _, x: two_classes(x[..., 0] ** 2)  # noqa: E731
    settings = {"num_subsets": 12, "block_size": 2}
    for scaled, share in ((True, 0), (False, 1)):
        found = judged(
            ("infidelity",), 2 * image[..., 0] ** 2, image, square, scaled=scaled, **settings
        )
        assert found["infidelity"]["share"] == pytest.approx(share, abs=1e-5)
    unscaled = found["infidelity"]["infidelity"]
    assert unscaled > 0.1  # (2 d - d)^2 of drops of about 0.5 a pixel


def test_imputed_pixels_are_means_of_their_neighbours():
    rng = np.random.default_rng(0)
    image = rng.random((5, 6, 2)).astype(np.float32)
    missing = np.zeros((5, 6), bool)
    missing[2, 3] = True
    found = impute_linearly(jnp.asarray(image), jnp.asarray(missing))
    sides = image[1, 3] + image[3, 3] + image[2, 2] + image[2, 4]
    corners = image[1, 2] + image[1, 4] + image[3, 2] + image[3, 4]
    np.testing.assert_allclose(found[2, 3], (2 * sides + corners) / 12, atol=1e-5)
    np.testing.assert_array_equal(found[~missing], image[~missing])
    # A ramp has no other values that are means of their neighbours.
    rows = np.broadcast_to(np.arange(6.0)[None, :, None], (5, 6, 1)).astype(np.float32)
    missing[1:4, 1:5] = True
    np.testing.assert_allclose(
        impute_linearly(jnp.asarray(rows), jnp.asarray(missing)), rows, atol=1e-4
    )
    volume = np.ones((3, 4, 3, 1), np.float32)
    hole = np.zeros((3, 4, 3), bool)
    hole[:2] = True
    np.testing.assert_allclose(
        impute_linearly(jnp.asarray(volume), jnp.asarray(hole)), 1, atol=1e-4
    )


def test_road_of_what_can_and_cannot_be_filled_in():
    everywhere = judged(("road",), IMAGE[..., 0], np.ones_like(IMAGE), num_steps=4)
    np.testing.assert_allclose(everywhere["road"]["curve"], 1, atol=1e-6)
    alone = np.zeros((4, 4, 1), np.float32)
    alone[1, 1] = 1
    found = judged(("road",), alone[..., 0], alone, num_steps=4)
    np.testing.assert_array_equal(found["road"]["curve"], 0)
    last = judged(("road",), -alone[..., 0], alone, num_steps=4)
    assert last["road"]["road"] > 0.4


def test_superpixels_go_one_by_one():
    relevance = np.kron([[4.0, 1.0], [2.0, 3.0]], np.ones((4, 4)))
    found = judged(("irof",), relevance, CORNERS, num_segments=4, baseline="zero")
    np.testing.assert_allclose(found["irof"]["curve"], [1, 0, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(found["irof"]["irof"], 1 - 1 / 8, atol=1e-3)
    found = judged(("irof",), -relevance, CORNERS, num_segments=4, baseline="zero")
    np.testing.assert_allclose(found["irof"]["irof"], 1 / 8, atol=1e-3)


def test_the_side_of_superpixels():
    assert block_side((128, 128), 30) == 26
    assert block_side((4, 4), 16) == 1
    assert block_side((5, 7), 1) == 7
