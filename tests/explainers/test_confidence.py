"""Confidence scores of models whose probabilities are known."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Batch, Confidence, explain
from jaxseg_xai.explainers.uncertainty.confidence import _mean_pairwise_dice, _turn, _turn_back
from tests.explainers import models

SHAPE = (16, 16)


def target(shape=SHAPE, region=None):
    region = np.ones(shape, bool) if region is None else region
    return SegmentTarget(class_index=np.int32(1), region=region, reference=region)


def square(shape=SHAPE, low=0.2, high=0.6):
    """Bright in the upper left, [4:9, 3:7]."""
    image = np.full((*shape, 1), low, np.float32)
    image[4:9, 3:7] = high
    return image


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(predict, explainer, image, goal):
    return explainer.explain(predict, None, image, goal)


def run(predict, image, goal=None, explainer=None):
    found = _run(predict, explainer or Confidence(), image, goal or target(image.shape[:2]))
    return jax.tree.map(np.asarray, found)


def upper_half(variables, images):
    """Class 1 in the upper half, wherever the image is bright: does not turn with it."""
    upper = jnp.arange(images.shape[1])[:, None] < images.shape[1] // 2
    return models.two_classes(jnp.where(upper & (images[..., 0] > 0.5), 1.0, -1.0))


def broken_when_turned(variables, images):
    """NaN unless the first corner is dark."""
    poison = jnp.where(images[:, :1, :1, 0] > 0.5, jnp.nan, 0.0)
    return models.bright_pixels(variables, images) + poison[..., None]


def three_even_classes(variables, images):
    return jnp.broadcast_to(jnp.array([0.0, 1e-6, 0.0]), (*images.shape[:3], 3))


def test_probabilities_of_a_model_of_single_pixels():
    image = square()
    found = run(models.bright_pixels, image)
    inside = 1 / (1 + np.exp(-20 * 0.1))  # of class 1, at 0.6
    outside = 1 / (1 + np.exp(-20 * 0.3))  # of class 0, at 0.2
    assert found.status == Status.OK
    scores = found.scores
    assert scores["area_target"] == 20
    np.testing.assert_allclose(scores["confidence"], inside, rtol=1e-5)
    entropy = -(inside * np.log(inside) + (1 - inside) * np.log(1 - inside)) / np.log(2)
    np.testing.assert_allclose(scores["entropy"], entropy, rtol=1e-5)
    assert inside < scores["confidence_band"] < outside
    assert 0 < scores["entropy_band"] < entropy
    soft = 2 * 20 * inside / (20 * inside + (256 - 20) * (1 - outside) + 20)
    np.testing.assert_allclose(scores["soft_dice_confidence"], soft, rtol=1e-5)
    # What looks at single pixels turns with the image.
    np.testing.assert_allclose(scores["tta_disagreement"], 0, atol=1e-6)
    np.testing.assert_allclose(scores["tta_pairwise"], 0, atol=1e-6)
    assert not found.maps["tta_disagreement"].any()
    np.testing.assert_array_equal(found.maps["prediction"], image[..., 0] > 0.5)
    np.testing.assert_allclose(found.attribution[5, 5], entropy, rtol=1e-5)
    assert 0 <= found.attribution.min() <= found.attribution.max() <= 1


@pytest.mark.parametrize(
    ("shape", "rotate", "kept", "views"),
    [(SHAPE, True, 3, 7), (SHAPE, False, 1, 3), ((16, 12), True, 1, 3)],
)
def test_a_model_that_does_not_turn_with_the_image(shape, rotate, kept, views):
    """The one bright pixel, in a corner, stays in the upper half in so many of the views."""
    image = np.zeros((*shape, 1), np.float32)
    image[0, 0] = 1
    found = run(upper_half, image, explainer=Confidence(rotate=rotate))
    np.testing.assert_allclose(found.scores["tta_disagreement"], 1 - kept / views, rtol=1e-6)
    np.testing.assert_allclose(found.maps["tta_disagreement"][0, 0], 1 - kept / views, rtol=1e-6)
    pairs = (kept + 1) * kept / ((views + 1) * views)
    np.testing.assert_allclose(found.scores["tta_pairwise"], 1 - pairs, rtol=1e-6)


@pytest.mark.parametrize("view", list(itertools.product(range(4), (False, True))))
def test_views_come_back(view):
    image = np.random.default_rng(0).random((5, 5)).astype(np.float32)
    np.testing.assert_array_equal(_turn_back(_turn(image, *view), *view), image)


def test_views_are_all_different():
    image = np.random.default_rng(0).random((5, 5))
    views = {np.asarray(_turn(image, k, f)).tobytes() for k in range(4) for f in (False, True)}
    assert len(views) == 8


def test_pairs_are_counted_once():
    masks = np.random.default_rng(0).random((4, 6, 6)) > 0.5
    expected = np.mean(
        [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in itertools.combinations(masks, 2)]
    )
    np.testing.assert_allclose(_mean_pairwise_dice(jnp.asarray(masks)), expected, rtol=1e-6)


def test_entropy_of_an_even_guess_is_one():
    found = run(three_even_classes, square())
    np.testing.assert_allclose(found.scores["entropy"], 1, rtol=1e-5)
    assert found.attribution.max() <= 1


def test_only_the_region_counts():
    region = np.zeros(SHAPE, bool)
    region[:6] = True
    found = run(models.bright_pixels, square(), target(region=region))
    assert found.scores["area_target"] == 8
    assert not found.attribution[6:].any()


def test_a_segment_without_an_outline_has_no_band():
    found = run(models.bright_pixels, np.ones((*SHAPE, 1), np.float32))
    assert found.status == Status.OK
    assert np.isnan(found.scores["confidence_band"])
    assert found.scores["confidence"] > 0.99


@pytest.mark.parametrize(
    ("predict", "image", "goal", "status"),
    [
        (models.bright_pixels, np.zeros((*SHAPE, 1)), None, Status.EMPTY_TARGET),
        (models.bright_pixels, square(), target(region=np.zeros(SHAPE, bool)), Status.EMPTY_REGION),
        (models.bright_pixels, np.full((*SHAPE, 1), np.nan), None, Status.NON_FINITE),
        (models.broken, square(), None, Status.NON_FINITE),
        (broken_when_turned, square(), None, Status.OK),
        (broken_when_turned, square()[:9, :7], None, Status.NON_FINITE),
    ],
)
def test_statuses(predict, image, goal, status):
    found = run(predict, np.asarray(image, np.float32), goal)
    assert found.status == status
    for values in (found.attribution, *found.maps.values()):
        assert np.isfinite(values).all()
    if status != Status.OK:
        assert not found.attribution.any()
        assert np.isnan(list(found.scores.values())).all()


def batch_of(images, goal):
    count = len(images)
    return Batch(
        images=images,
        targets=jax.tree.map(lambda leaf: np.stack([leaf] * count), goal),
        valid=np.ones(count, bool),
        image_ids=np.arange(count, dtype=np.uint32),
        pool=None,
        key=jax.random.key(0),
    )


def test_a_batch_is_as_one_by_one_and_compiles_once():
    images = np.stack([square(high=0.6 + 0.05 * i) for i in range(8)])
    batch = batch_of(images, target())
    for devices in (jax.devices()[:1], jax.devices()):
        found = explain(
            Confidence(), None, batch, predict=models.bright_pixels, mesh=device_mesh(devices)
        )
        for i in (0, 5):
            alone = run(models.bright_pixels, images[i])
            jax.tree.map(
                lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-6),
                found,
                alone,
            )


def many_channels(variables, images):
    features = images * jnp.ones(32)
    features = jax.lax.conv_general_dilated(
        features,
        jnp.ones((3, 3, 32, 32)),
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jnp.stack([features.min(axis=-1), features.max(axis=-1)], axis=-1)


def test_the_memory_does_not_grow_with_the_batch():
    needs = []
    for count in (len(jax.devices()), 16 * len(jax.devices())):
        images = np.zeros((count, 32, 32, 1), np.float32)
        batch = batch_of(images, target((32, 32)))
        run = explain.lower(Confidence(), None, batch, predict=many_channels, mesh=device_mesh())
        needs.append(run.compile().memory_analysis().temp_size_in_bytes)
    assert needs[1] < 2 * needs[0]


def test_bad_settings():
    with pytest.raises(ConfigError, match=r"confidence.band_width is 0; it must be at least 1"):
        dataclasses.replace(Confidence(), band_width=0).validate()
