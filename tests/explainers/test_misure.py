import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import explain
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.search import _RATIOS, Misure, _spread
from jaxseg_xai.explainers.misure.stable import StableMisure
from jaxseg_xai.explainers.misure.stages import Found, Job, MaskedModel
from jaxseg_xai.ops.dice import hard_dice
from tests.compiled import kernels_of_users
from tests.explainers import models
from tests.explainers.test_misure_paper import SHAPE, blob, make_batch, run
from tests.support import segmenter_of

SMALL = Misure(num_iterations=30, max_dilations=6)
STABLE = StableMisure(num_iterations=30, max_dilations=6, num_starts=2, share=0.0)
LEVEL = 0.4


@pytest.fixture(scope="module")
def blurred():
    """What a model that needs the surroundings of a pixel gets."""
    image = blob(1)
    return image, run(models.blurred_brightness, image, LEVEL, SMALL)


def test_the_region_is_small_and_sufficient_when_looked_at_again(blurred):
    image, found = blurred
    region = np.asarray(found.maps["minimal_region"])
    np.testing.assert_array_equal(region, np.asarray(found.attribution) > 0.5)
    assert not region[~np.asarray(found.maps["sufficient_region"])].any()
    assert region.sum() < 0.8 * np.sum(found.maps["sufficient_region"])
    labels = [
        models.blurred_brightness(LEVEL, seen[None])[0].argmax(-1)
        for seen in (image, image * region[..., None])
    ]
    dice = hard_dice(labels[1] == 1, labels[0] == 1)
    assert dice >= SMALL.tau
    assert found.scores["dice_minimal"] == dice
    assert found.scores["area_minimal"] == pytest.approx(region.sum() / (labels[0] == 1).sum())
    np.testing.assert_array_equal(found.maps["masked_prediction"], labels[1])


def test_the_region_is_the_smallest_sufficient_one_of_the_search(blurred):
    _, found = blurred
    dice, area = (np.asarray(found.traces[f"{name}_search"]) for name in ("dice", "area"))
    steps = int(found.scores["iterations"])
    assert np.isfinite(dice[:steps]).all()
    assert np.isnan(dice[steps:]).all()
    assert area[0] == pytest.approx(float(found.scores["area_sufficient"]))
    enough = dice[:steps] >= SMALL.tau
    assert found.scores["area_minimal"] == pytest.approx(area[:steps][enough].min())


def test_a_pixel_model_needs_little_more_than_tau_asks_for():
    found = run(models.bright_pixels, blob(), explainer=dataclasses.replace(SMALL, tau=0.8))
    # Of n pixels m are kept: Dice 2m / (m + n), at least 0.8 for m = 2n / 3.
    assert 2 / 3 - 0.01 <= found.scores["area_minimal"] < 0.9


def test_a_higher_tau_keeps_more():
    areas = [
        run(models.blurred_brightness, blob(1), LEVEL, dataclasses.replace(SMALL, tau=tau)).scores[
            "area_minimal"
        ]
        for tau in (0.7, 0.95)
    ]
    assert areas[0] < areas[1]


def test_it_ends_when_nothing_moves():
    hasty = dataclasses.replace(SMALL, patience=5)
    found = run(models.blurred_brightness, blob(1), LEVEL, hasty)
    steps = int(found.scores["iterations"])
    assert 5 <= steps < SMALL.num_iterations
    area = np.asarray(found.traces["area_search"])[:steps]
    enough = np.asarray(found.traces["dice_search"])[:steps] >= SMALL.tau
    best = np.minimum.accumulate(np.where(enough, area, np.inf))
    assert best[-1] >= 0.99 * best[-5]


def test_a_region_that_is_never_sufficient_is_flagged():
    region = np.zeros(SHAPE, bool)
    region[:4, :4] = True
    found = run(
        models.impossible,
        np.full((*SHAPE, 1), 0.5, np.float32),
        explainer=SMALL,
        region=region,
    )
    assert found.status == Status.NOT_REACHED
    np.testing.assert_array_equal(found.maps["minimal_region"], found.maps["sufficient_region"])


@pytest.mark.parametrize(
    ("image", "region", "status"),
    [
        (np.full((*SHAPE, 1), 0.1, np.float32), None, Status.EMPTY_TARGET),
        (blob(), np.zeros(SHAPE, bool), Status.EMPTY_REGION),
        (np.where(np.arange(SHAPE[1])[:, None] == 4, np.nan, blob()), None, Status.NON_FINITE),
    ],
)
def test_what_cannot_be_explained(image, region, status):
    found = run(models.bright_pixels, image, explainer=SMALL, region=region)
    assert found.status == status
    assert not found.attribution.any()
    assert not found.maps["minimal_region"].any()
    assert all(np.isnan(score) for score in found.scores.values())


@pytest.mark.parametrize(
    ("shape", "explainer"),
    [
        ((1, 1), SMALL),
        ((1, 40), SMALL),
        # Of another kind and direction: what comes before the search is the same.
        ((32, 1), MisurePaper(num_iterations=3, max_dilations=2)),
    ],
)
def test_images_of_one_pixel_or_one_line(shape, explainer):
    found = run(models.bright_pixels, np.full((*shape, 1), 0.9, np.float32), explainer=explainer)
    assert found.status == Status.OK
    assert np.isfinite(found.attribution).all()


@pytest.mark.slow
def test_a_batch_over_all_devices_equals_one_by_one():
    problem, batch = make_batch(8)
    explainer = dataclasses.replace(SMALL, lanes=2)
    together = explain(explainer, problem, batch, mesh=device_mesh())
    on_one = explain(explainer, problem, batch, mesh=device_mesh(jax.devices()[:1]))
    chex.assert_trees_all_close(together, on_one, atol=1e-5)
    for i in (0, 5):
        alone = run(models.blurred_brightness, batch.images[i], problem.variables, SMALL)
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], together), alone, atol=1e-6
        )


def test_neighbours_and_their_order_change_no_bit():
    problem, batch = make_batch(8)
    mesh = device_mesh(jax.devices()[:1])
    explainer = dataclasses.replace(SMALL, lanes=2)

    @functools.partial(jax.jit, compiler_options=kernels_of_users())
    def explained(problem, batch):
        return explainer.explain_batch_counting(problem, batch, mesh)[0]

    found = explained(problem, batch)
    images, targets = jax.tree.map(lambda leaf: leaf[::-1], (batch.images, batch.targets))
    fewer = np.arange(8) % 2 == 0
    other = dataclasses.replace(batch, images=images, targets=targets, valid=fewer)
    again = explained(problem, other)
    chex.assert_trees_all_equal(
        jax.tree.map(lambda leaf: leaf[::2], again),
        jax.tree.map(lambda leaf: leaf[::-1][::2], found),
    )


def test_what_only_fills_up_a_batch_takes_no_step():
    problem, batch = make_batch(4)
    batch = dataclasses.replace(batch, valid=np.arange(4) == 3)
    mesh = device_mesh(jax.devices()[:1])

    @jax.jit
    def counting(problem):
        return SMALL.explain_batch_counting(problem, batch, mesh)

    found, use = counting(problem)
    assert use.useful.sum() == found.scores["iterations"][3] > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tau", 0.0),
        ("learning_rate", 0.0),
        ("learning_rate", 0.0005),
        ("multiplier_rate", 0.0),
        ("max_misses", 0),
        ("patience", 0),
        ("num_iterations", 0),
        ("lanes", 0),
        ("element_size", 65),
    ],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(ConfigError, match=f"misure.{field} is {value}"):
        check(dataclasses.replace(SMALL, **{field: value}), SMALL.name)


def bright_and_less(variables, images):
    """Two classes that overlap: all that is not black, and in it what `bright_pixels` sees."""
    return jnp.stack([images[..., 0], models.bright_pixels(variables, images)[..., 1]], axis=-1)


def test_a_class_that_lies_in_another_is_explained_as_if_it_were_alone():
    image = blob(1)
    alone = run(models.bright_pixels, image, explainer=SMALL)
    inside = run(
        bright_and_less,
        image,
        explainer=SMALL,
        class_names=("whole", "core"),
        activation="sigmoid",
    )
    np.testing.assert_allclose(inside.attribution, alone.attribution, atol=1e-5)
    for name, score in alone.scores.items():
        assert inside.scores[name] == pytest.approx(float(score), rel=1e-4), name
    bright, region = image[..., 0] > 0.5, np.asarray(alone.maps["minimal_region"])
    assert 0 < bright.sum() < bright.size
    for name, seen in (("prediction", np.ones(SHAPE, bool)), ("masked_prediction", region)):
        np.testing.assert_array_equal(inside.maps[name], np.stack([seen, bright & seen], axis=-1))


def test_a_given_reference_is_what_is_explained():
    problem, batch = make_batch(4, models.bright_pixels)
    left = np.arange(SHAPE[1]) < 20
    targets = dataclasses.replace(batch.targets, reference=batch.targets.reference & left)
    batch = dataclasses.replace(batch, targets=targets)
    found = explain(SMALL, problem, batch, mesh=device_mesh())
    np.testing.assert_array_equal(found.scores["area_target"], targets.reference.sum(axis=(1, 2)))
    assert (found.scores["dice_start"] == 1).all()
    assert not (np.asarray(found.maps["sufficient_region"]) & ~targets.reference).any()


@pytest.mark.parametrize("rank", [2, 3])
def test_the_levels_are_spread_by_the_r_sequence(rank):
    ratios = np.array(_RATIOS[rank])
    root = 1 / ratios[0]
    assert root ** (rank + 1) == pytest.approx(root + 1, rel=1e-12)
    np.testing.assert_allclose(ratios, root ** -np.arange(1.0, rank + 1), rtol=1e-12)
    spread = _spread((8, 6, 5)[:rank])
    last = tuple(np.array(spread.shape) - 1)
    assert spread[last] == pytest.approx(np.dot(last, ratios) % 1, abs=1e-6)
    assert len(np.unique(spread)) == spread.size


@pytest.mark.parametrize(
    ("share", "fewest", "expected"),
    [
        (0, 1, [1.0, 0.6, 0.3, 0.7]),  # what any of them keeps
        (0.5, 1, [0.9, 0.2, 0.0, 0.0]),  # what two of them do
        (0.5, 2, [1.0, 0.6, 0.3, 0.7]),  # which is not enough
        (0.5, 4, [1.0, 0.2, 0.0, 0.0]),  # nothing is: the smallest region
    ],
)
def test_of_several_searches_is_kept_what_many_of_them_keep(share, fewest, expected):
    """The model of this job finds the class in the first pixel, if enough are shown."""
    segment = np.array([[True, False, False, False]])
    target = SegmentTarget(class_index=1, region=np.ones((1, 4), bool), reference=segment)
    job = Job(np.zeros((1, 4, 1)), target, np.zeros((1, 4), np.int32), jnp.int32(0))

    def logits(mask):
        return models.two_classes(jnp.where(segment & (jnp.sum(mask) >= fewest), 1.0, -1.0))

    level = jnp.array([[[0.9, 0.6, 0.0, 0.0]], [[0.8, 0.1, 0.3, 0.7]], [[1.0, 0.2, 0.0, 0.0]]])
    mask = (level > 0.5).astype(jnp.float32)
    counts = {"iterations": jnp.array([5.0, 6.0, 7.0])}
    each = Found(level, mask, jnp.array([True] * 3), counts, {}, {})
    model = MaskedModel(logits, segmenter_of(models.bright_pixels).output)
    found = StableMisure(num_starts=3, share=share).together(model, job, each)
    np.testing.assert_allclose(found.attribution[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(found.mask, np.array(found.attribution) > 0.5)
    np.testing.assert_allclose(found.maps["confidence"][0], [1, 1 / 3, 0, 1 / 3], rtol=1e-6)
    assert found.scores["iterations"] == 18
    assert found.scores["confidence"] == pytest.approx(5 / 9 if expected[1] > 0.5 else 1)


def test_other_starts_find_other_regions_and_together_they_are_sufficient():
    found = run(models.blurred_brightness, blob(1), LEVEL, STABLE)
    region, confidence = (np.asarray(found.maps[x]) for x in ("minimal_region", "confidence"))
    assert found.scores["dice_minimal"] >= STABLE.tau
    assert set(np.unique(confidence)) == {0, 0.5, 1}
    np.testing.assert_array_equal(region, confidence > 0)
    assert found.scores["confidence"] == pytest.approx(confidence[region].mean(), rel=1e-5)
