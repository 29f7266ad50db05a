import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import explain
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.explainers.misure.windows import (
    WholeView,
    WindowView,
    first_holding,
    plan_windows,
)
from tests.explainers import models
from tests.support import batch_of, problem_of, segmenter_of

SIZE = 72
LEVEL = jnp.float32(0.2)


def discs(centres, radius=7):
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = [(y - a) ** 2 + (x - b) ** 2 < radius**2 for a, b in centres]
    noise = np.random.default_rng(0).uniform(0, 0.1, (len(centres), SIZE, SIZE))
    return np.where(inside, 0.9, noise).astype(np.float32)[..., None]


@pytest.fixture(scope="module")
def problem():
    return problem_of(models.blurred_brightness, LEVEL)


@pytest.fixture(scope="module")
def batch(problem):
    """Discs in the middle and in a corner, and one image whose object needs all of it."""
    images = discs([(36, 36), (4, 66), (40, 20)])
    return batch_of(problem, np.concatenate([images, discs([(36, 36)], radius=30)]))


def views_of(sides, region_side=None):
    segmenter = segmenter_of(models.blurred_brightness)
    crops = plan_windows(segmenter, LEVEL, (SIZE, SIZE, 1), sides, region_side)
    return [*(WindowView(crop, LEVEL) for crop in crops), WholeView(segmenter, LEVEL)]


def boxed(batch, side, corners):
    """The same with a box each as the region."""
    regions = np.zeros((len(corners), SIZE, SIZE), bool)
    for region, (row, column) in zip(regions, corners, strict=True):
        region[row : row + side, column : column + side] = True
    return dataclasses.replace(batch, targets=dataclasses.replace(batch.targets, region=regions))


@pytest.mark.parametrize(
    ("explainer", "sides", "region_side", "first", "last"),
    [
        (MisurePaper, (40,), None, [0, 0, 0, 1], [1, 0, 1, 1]),
        (Misure, (32, 48), 20, [0, 0, 1, 0], [2, 0, 1, 0]),
    ],
)
def test_a_window_changes_nothing(explainer, sides, region_side, first, last, problem, batch):
    if region_side:
        batch = boxed(batch, region_side, [(26, 26), (0, 52), (30, 8), (26, 26)])
    settings = explainer(tau=1.0, num_iterations=8, max_dilations=6, region_side=region_side)
    mesh = device_mesh(jax.devices()[:1])
    through, whole = (
        jax.device_get(explain(dataclasses.replace(settings, windows=w), problem, batch, mesh=mesh))
        for w in (sides, ())
    )
    assert (through.status == Status.OK).all()
    chex.assert_trees_all_close(through, whole, atol=1e-4)
    views, regions = views_of(sides, region_side), jnp.asarray(batch.targets.region)
    # Some outgrow the window in which they begin.
    for masks, windows in (
        (jnp.asarray(whole.maps["prediction"] == 1) & regions, first),
        (jnp.asarray(whole.maps["sufficient_region"]), last),
    ):
        np.testing.assert_array_equal(first_holding(views, masks, regions), windows)


def test_windows_that_do_not_pay_are_left_out():
    def mixing(variables, images):
        return models.bright_pixels(variables, images - images.mean((1, 2), keepdims=True))

    def planned(predict, sides, size=SIZE):
        crops = plan_windows(segmenter_of(predict), LEVEL, (size, size, 1), sides)
        return [crop.window for crop in crops]

    assert planned(models.blurred_brightness, (SIZE, 40, 40, 300)) == [(40, 40)]
    assert planned(models.blurred_brightness, (70,)) == []
    assert planned(mixing, (40,)) == []
    assert planned(models.blurred_brightness, None) == []  # a small image
    assert planned(models.blurred_brightness, None, 512) == [(192, 192), (256, 256)]


def test_where_an_empty_mask_goes():
    nothing, everything = jnp.zeros((1, SIZE, SIZE), bool), jnp.ones((1, SIZE, SIZE), bool)
    assert first_holding(views_of((40,)), nothing, everything).tolist() == [0]
    assert first_holding(views_of((40,), 20), nothing, everything).tolist() == [1]
    assert first_holding(views_of(()), everything, everything).tolist() == [0]
    assert len(views_of((40,), 41)) == 1  # a window that no region need fit into
