import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.explainers import Batch, Misure, MisurePaper, explain
from jaxseg_xai.explainers.misure_windows import first_holding, plan_windows
from jaxseg_xai.parallel.mesh import device_mesh
from jaxseg_xai.types import SegmentTarget, Status
from tests.explainers import models

SIZE = 72
LEVEL = jnp.float32(0.2)


def discs(centres, radius=7):
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = [(y - a) ** 2 + (x - b) ** 2 < radius**2 for a, b in centres]
    noise = np.random.default_rng(0).uniform(0, 0.1, (len(centres), SIZE, SIZE))
    return np.where(inside, 0.9, noise).astype(np.float32)[..., None]


def make_batch(images):
    whole = np.ones(images.shape[:3], bool)
    return Batch(
        images=images,
        targets=SegmentTarget(
            class_index=np.ones(len(images), np.int32), region=whole, reference=whole
        ),
        valid=whole[:, 0, 0],
        image_ids=np.arange(len(images), dtype=np.uint32),
        pool=None,
        key=jax.random.key(0),
    )


@pytest.fixture(scope="module")
def batch():
    """Discs in the middle and in a corner, and one image whose object needs all of it."""
    images = discs([(36, 36), (4, 66), (40, 20)])
    return make_batch(np.concatenate([images, discs([(36, 36)], radius=30)]))


@pytest.mark.parametrize(
    "explainer",
    [MisurePaper(num_iterations=8, max_dilations=6), Misure(num_iterations=8, max_dilations=6)],
    ids=lambda explainer: explainer.name,
)
def test_a_window_changes_nothing(explainer, batch):
    arguments = {"predict": models.blurred_brightness, "mesh": device_mesh(jax.devices()[:1])}
    through, whole = (
        jax.device_get(
            explain(dataclasses.replace(explainer, windows=w), LEVEL, batch, **arguments)
        )
        for w in ((40,), ())
    )
    assert (through.status == Status.OK).all()
    chex.assert_trees_all_close(through, whole, atol=1e-4)

    [crop] = plan_windows(models.blurred_brightness, LEVEL, (SIZE, SIZE, 1), (40,))
    which = first_holding([crop], jnp.asarray(through.maps["sufficient_region"]))
    np.testing.assert_array_equal(which, [0, 0, 0, 1])


def test_windows_that_do_not_pay_are_left_out():
    def mixing(variables, images):
        return models.bright_pixels(variables, images - images.mean((1, 2), keepdims=True))

    def planned(predict, sides, size=SIZE):
        return [c.window for c in plan_windows(predict, LEVEL, (size, size, 1), sides)]

    assert planned(models.blurred_brightness, (SIZE, 40, 40, 300)) == [(40, 40)]
    assert planned(models.blurred_brightness, (70,)) == []
    assert planned(mixing, (40,)) == []
    assert planned(models.blurred_brightness, None) == []  # a small image
    assert planned(models.blurred_brightness, None, 256) == [(96, 96), (128, 128)]


def test_where_an_empty_region_goes():
    [crop] = plan_windows(models.blurred_brightness, LEVEL, (SIZE, SIZE, 1), (40,))
    assert first_holding([crop], jnp.zeros((1, SIZE, SIZE), bool)).tolist() == [0]
    assert first_holding([], jnp.ones((2, SIZE, SIZE), bool)).tolist() == [0, 0]
