"""Confidence scores of models whose probabilities are known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import runner
from jaxseg_xai.explainers.uncertainty.confidence import Confidence, _mean_pairwise_dice
from jaxseg_xai.explainers.uncertainty.views import turn, turn_back, views_of
from tests.explainers import models
from tests.support import batch_of, problem_of

SHAPE = (16, 16)


def square(shape=SHAPE, low=0.2, high=0.6):
    """Bright in the upper left, [4:9, 3:7]."""
    image = np.full((*shape, 1), low, np.float32)
    image[4:9, 3:7] = high
    return image


def run(apply, image, *, region=None, class_index=1, explainer=None, **options):
    """One image, explained alone; options of the model."""
    problem = problem_of(apply, rank=image.ndim - 1, **options)
    batch = batch_of(
        problem,
        image[None],
        class_index=class_index,
        region=None if region is None else region[None],
    )
    mesh = device_mesh(jax.devices()[:1])
    found = runner.explain(explainer or Confidence(), problem, batch, mesh=mesh)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], found)


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


def test_a_volume_is_flipped_along_every_axis():
    """Class 1 where bright, in the upper half of the slices, rows and columns: an octant."""

    def octant(variables, images):
        inside = jnp.ones(images.shape[1:-1], bool)
        for axis, size in enumerate(inside.shape):
            place = [1] * 3
            place[axis] = size
            inside &= (jnp.arange(size) < size // 2).reshape(place)
        return models.two_classes(jnp.where(inside & (images[..., 0] > 0.5), 1.0, -1.0))

    image = np.zeros((4, 6, 8, 1), np.float32)
    image[0, 0, 0] = 1
    found = run(octant, image)
    # Seen in none of the 7 flips, each of which moves the corner to another octant.
    np.testing.assert_allclose(found.scores["tta_disagreement"], 1, rtol=1e-6)
    assert found.maps["tta_disagreement"].shape == (4, 6, 8)


SIZES = [((5, 5), True, 8), ((5, 5), False, 4), ((5, 4), True, 4)]
SIZES += [((3, 4, 4), True, 16), ((4, 4, 3), True, 8), ((4, 4, 4), False, 8)]


@pytest.mark.parametrize(("size", "rotate", "count"), SIZES)
def test_views_are_all_different_and_come_back(size, rotate, count):
    image = np.random.default_rng(0).random((*size, 2)).astype(np.float32)
    views = views_of(size, rotate=rotate)
    seen = [np.asarray(turn(image, view)) for view in views]
    assert {view.shape for view in seen} == {image.shape}
    assert len({view.tobytes() for view in (*seen, image)}) == count
    for view, of_it in zip(views, seen, strict=True):
        np.testing.assert_array_equal(turn_back(of_it, view), image)
        np.testing.assert_array_equal(turn_back(of_it[..., 0], view), image[..., 0])


def test_pairs_are_counted_once():
    masks = np.random.default_rng(0).random((4, 6, 6)) > 0.5
    expected = np.mean(
        [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in itertools.combinations(masks, 2)]
    )
    np.testing.assert_allclose(_mean_pairwise_dice(jnp.asarray(masks)), expected, rtol=1e-6)


def test_entropy_of_an_even_guess_is_one():
    found = run(three_even_classes, square(), class_names=("a", "b", "c"))
    np.testing.assert_allclose(found.scores["entropy"], 1, rtol=1e-5)
    assert found.attribution.max() <= 1


def two_brightnesses(variables, images):
    """Class 0 where brighter than 0.1, class 1 where brighter than 0.5."""
    return 20 * (images - jnp.array([0.1, 0.5]))


@pytest.mark.parametrize("activation", ["sigmoid", "threshold"])
def test_a_class_that_others_may_overlap_is_a_choice_of_two(activation):
    def raw(variables, images):
        logits = two_brightnesses(variables, images)
        return logits if activation == "sigmoid" else jax.nn.sigmoid(logits)

    names = ("whole", "core")
    found = run(raw, square(), class_index=1, class_names=names, activation=activation)
    inside = 1 / (1 + np.exp(-20 * 0.1))
    assert found.scores["area_target"] == 20
    np.testing.assert_allclose(found.scores["confidence"], inside, rtol=1e-5)
    entropy = -(inside * np.log(inside) + (1 - inside) * np.log(1 - inside)) / np.log(2)
    np.testing.assert_allclose(found.scores["entropy"], entropy, rtol=1e-5)
    # Sure that the class is not there.
    outside = 1 / (1 + np.exp(20 * 0.3))
    entropy = -(outside * np.log(outside) + (1 - outside) * np.log(1 - outside)) / np.log(2)
    np.testing.assert_allclose(found.attribution[0, 0], entropy, rtol=1e-4)
    assert found.maps["prediction"].shape == (*SHAPE, 2)
    assert found.maps["prediction"][..., 0].all()


def test_only_the_region_counts():
    region = np.zeros(SHAPE, bool)
    region[:6] = True
    found = run(models.bright_pixels, square(), region=region)
    assert found.scores["area_target"] == 8
    assert not found.attribution[6:].any()


def test_a_segment_without_an_outline_has_no_band():
    found = run(models.bright_pixels, np.ones((*SHAPE, 1), np.float32))
    assert found.status == Status.OK
    assert np.isnan(found.scores["confidence_band"])
    assert found.scores["confidence"] > 0.99


def test_views_that_are_not_finite_are_a_status():
    assert run(broken_when_turned, square()).status == Status.OK
    found = run(broken_when_turned, square()[:9, :7])
    assert found.status == Status.NON_FINITE
    assert not found.attribution.any()
    assert not found.maps["tta_disagreement"].any()
    assert np.isnan(list(found.scores.values())).all()


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
    needs, problem = [], problem_of(many_channels)
    for count in (len(jax.devices()), 16 * len(jax.devices())):
        batch = batch_of(problem, np.zeros((count, 32, 32, 1), np.float32))
        lowered = runner.lower(Confidence(), problem, batch, mesh=device_mesh())
        needs.append(lowered.compile().memory_analysis().temp_size_in_bytes)
    assert needs[1] < 2 * needs[0]
