"""The ATE of blocks of images: values, statuses, sampling, and what no result depends on."""

import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers.ate.ate import Ate
from tests.explainers import models
from tests.explainers.ate_inputs import (
    HEIGHT,
    SMALL,
    WIDTH,
    brute_force,
    ids_of,
    image,
    make_batch,
    make_pool,
    make_problem,
    run,
)

BLURRED = make_problem(models.blurred_brightness)
#: Every patch darkens what it replaces.
DARKENED = make_problem(models.cued, make_pool(value=0.2))


def test_the_cue_block_carries_everything_and_its_effect_is_known():
    batch = make_batch(image()[None])
    explained = run(DARKENED, batch)
    expected = np.zeros((HEIGHT, WIDTH))
    expected[0:8, 24:32] = -100  # without the cue nothing is segmented: Dice falls from 100 to 0
    np.testing.assert_allclose(explained.attribution[0], expected, atol=1e-4)
    scores = {name: float(score[0]) for name, score in explained.scores.items()}
    blocks = 3 * 5 - 1  # the region is one block
    assert scores == {
        "base_dice": pytest.approx(100),
        "num_negative": 1,
        "num_positive": 0,
        "num_zero": blocks - 1,
        "num_significant": 1,
        "num_interventions": blocks * 2 + 4,
    }
    assert explained.traces["histogram"][0].tolist() == [1, 0, 0, 0, blocks - 1, 0, 0, 0, 0]


def test_content_that_hurts_is_positive():
    batch = make_batch(image(cue=0.0)[None])
    explained = run(make_problem(models.cued, make_pool(value=0.9)), batch)
    assert explained.scores["base_dice"][0] == 0
    assert explained.attribution[0, 3, 29] == pytest.approx(100, abs=1e-3)
    assert explained.scores["num_positive"][0] == 1


def test_equals_the_algorithm_done_one_at_a_time():
    batch = make_batch(np.stack([image(0), image(1)]))
    draws = SMALL.draw(BLURRED, batch)
    expected = brute_force(BLURRED, batch, SMALL, draws)
    assert (expected != 0).any()
    assert ((expected == 0) & ~batch.targets.region).any()
    found = run(BLURRED, batch)
    np.testing.assert_allclose(found.attribution, expected, atol=1e-3)


@pytest.mark.parametrize(("batch_size", "num_devices"), [(1, 1), (200, 4), (None, 1)])
def test_no_result_depends_on_chunks_or_devices(batch_size, num_devices):
    batch = make_batch(np.stack([image(0), image(1)]))
    wanted = run(BLURRED, batch)
    other = dataclasses.replace(SMALL, batch_size=batch_size)
    found = run(BLURRED, batch, other, jax.devices()[:num_devices])
    chex.assert_trees_all_equal(found, wanted)


def test_no_result_depends_on_the_other_images():
    images = np.stack([image(seed) for seed in range(2)])
    together = run(BLURRED, make_batch(images))
    alone = run(BLURRED, make_batch(images[1:2], first_id=2))
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[1:2], together), alone)


def test_an_image_never_gets_its_own_patches():
    pool = make_pool()
    own = (pool.sources == ids_of([102])).all(axis=1)
    pool.patches[:] = np.where(own, 0.0, 0.9)[:, None, None, None]
    problem = make_problem(models.cued, pool)
    found = run(problem, make_batch(image()[None], first_id=102))
    assert not found.attribution.any()  # the other images' patches are bright: the cue stays
    many = dataclasses.replace(SMALL, num_screen=0, num_patches=40)
    other = run(problem, make_batch(image()[None], first_id=101), many)
    assert other.attribution[0, 3, 29] < 0


@pytest.mark.parametrize("perturbation", ["patches", "noise"])
def test_no_switch_of_jax_changes_the_draws(perturbation):
    explainer = dataclasses.replace(SMALL, perturbation=perturbation)
    batch = make_batch(np.stack([image(0), image(1)]))
    wanted = explainer.draw(BLURRED, batch)
    with jax.threefry_partitionable(False), jax.enable_x64(True):
        found = explainer.draw(make_problem(models.blurred_brightness), batch)
    chex.assert_trees_all_equal(found, wanted, strict=True)


def test_zero_ablation_is_one_intervention_a_block():
    zero = Ate(perturbation="zero")
    explained = run(make_problem(models.cued, None), make_batch(image()[None]), zero)
    assert explained.attribution[0, 3, 29] == pytest.approx(-100, abs=1e-3)
    assert explained.scores["num_interventions"][0] == 14


def test_without_screening_every_block_gets_all_patches():
    explained = run(
        make_problem(models.cued),
        make_batch(image()[None]),
        dataclasses.replace(SMALL, num_screen=0),
    )
    assert explained.scores["num_interventions"][0] == 14 * 4


def test_only_the_wanted_blocks():
    batch = make_batch(np.stack([image(0), image(1)]))
    everywhere = run(BLURRED, batch)
    wanted = np.zeros((2, 3, 5), bool)
    wanted[:, 2, 1] = True
    some = jax.jit(functools.partial(SMALL.explain, mesh=device_mesh()))
    draws = SMALL.draw(BLURRED, batch)
    there = some(BLURRED, batch.images, batch.targets, draws, blocks=wanted)
    expected = np.zeros((2, HEIGHT, WIDTH))
    expected[:, 16:, 8:16] = everywhere.attribution[:, 16:, 8:16]
    assert expected[0].any()
    np.testing.assert_array_equal(there.attribution, expected)


def test_statuses_side_by_side():
    images = np.stack([image(seed) for seed in range(4)])
    images[2, 0, 0] = np.nan
    region = np.zeros((4, HEIGHT, WIDTH), bool)
    region[:, 8:16, 8:16] = True
    region[1] = False
    reference = images[..., 0] > 0.5
    reference[0] = False
    batch = make_batch(images, region=region, reference=reference)
    explained = run(make_problem(models.bright_pixels), batch)
    assert explained.status.tolist() == [
        Status.EMPTY_TARGET,
        Status.EMPTY_REGION,
        Status.NON_FINITE,
        Status.OK,
    ]
    assert not explained.attribution[:3].any()
    assert np.isnan(explained.scores["base_dice"][:3]).all()
    assert explained.scores["num_interventions"][:3].tolist() == [0, 0, 0]


def test_logits_that_are_not_finite():
    images = np.stack([image(0), image(1)])
    images[1, 0, 0] = 1e30
    explained = run(make_problem(models.overflowing), make_batch(images))
    assert explained.status.tolist() == [Status.OK, Status.NON_FINITE]


def test_interventions_whose_logits_are_not_finite():
    pool = make_pool()
    pool.patches[::3] = 1e30
    images = np.stack([image(0), image(1)])
    explained = run(make_problem(models.overflowing, pool), make_batch(images))
    assert explained.status.tolist() == [Status.NON_FINITE] * 2
    assert not explained.attribution.any()
    assert np.isnan(explained.scores["num_zero"]).all()


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (None, "ate needs patches of other images"),
        (make_pool(shape=(4, 4, 1)), r"pool's patches are \(4, 4, 1\)"),
    ],
)
def test_a_missing_or_unsuitable_pool_is_refused(pool, message):
    with pytest.raises(ConfigError, match=message):
        run(make_problem(models.cued, pool), make_batch(image()[None]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", -1.0),
        ("threshold", float("nan")),
        ("perturbation", "shuffle"),
        ("outcome", "iou"),
        ("region_side", 0),
        ("confidence", 1.0),
        ("block_size", 0),
        ("num_patches", 0),
        ("num_screen", -1),
        ("batch_size", 0),
    ],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(ConfigError, match=f"ate.{field} is {value!r}"):
        check(dataclasses.replace(SMALL, **{field: value}), "ate")
    check(SMALL, "ate")


def test_examples_that_fill_up_a_batch_cost_nothing():
    whole = make_batch(np.stack([image(0), image(1)]))
    part = dataclasses.replace(whole, valid=np.array([True, False]))
    explained, wanted = (run(BLURRED, batch) for batch in (part, whole))
    np.testing.assert_array_equal(explained.attribution[0], wanted.attribution[0])
    assert explained.scores["num_interventions"][1] == 0
    assert wanted.scores["num_interventions"][1] > 0


@pytest.mark.slow
def test_a_box_around_the_region_changes_nothing():
    batch = make_batch(np.stack([image(0), image(1)]))
    wanted = run(BLURRED, batch)
    for side in (8, 13):
        boxed = dataclasses.replace(SMALL, region_side=side)
        found = run(BLURRED, batch, boxed)
        np.testing.assert_array_equal(found.attribution, wanted.attribution)
        # What cannot reach the region is not evaluated.
        assert (found.scores["num_interventions"] <= wanted.scores["num_interventions"]).all()


def test_a_region_larger_than_its_box_is_said():
    batch = make_batch(np.stack([image(0), image(1)]))
    batch.targets.region[1] = True
    boxed = dataclasses.replace(SMALL, region_side=8)  # the program of the test before
    explained = run(BLURRED, batch, boxed)
    assert explained.status.tolist() == [Status.OK, Status.REGION_TOO_LARGE]
    assert not explained.attribution[1].any()


def test_an_image_whose_blocks_all_touch_the_region_has_no_map():
    batch = make_batch(np.stack([image(0), image(1)]))
    batch.targets.region[1] = True
    explained = run(BLURRED, batch)
    assert explained.status.tolist() == [Status.OK, Status.NO_BLOCKS]
    assert not explained.attribution[1].any()
    assert explained.scores["num_interventions"][1] == 0
    assert np.isnan(explained.scores["num_zero"][1])


def test_standard_errors_and_significance_are_those_of_the_effects():
    batch = make_batch(image()[None])
    explained = run(DARKENED, batch)
    significant = np.zeros((HEIGHT, WIDTH), bool)
    significant[0:8, 24:32] = True
    np.testing.assert_array_equal(explained.maps["significant"][0], significant)
    assert not explained.maps["standard_error"].any()  # every dark patch does the same
    assert explained.scores["num_significant"] == 1
    coarse = dataclasses.replace(SMALL, outcome="soft_dice", threshold=0.5, num_screen=0)
    mixed = run(BLURRED, make_batch(image()[None]), coarse)
    # Only what is shown is called significant, and the interval is wider than the error.
    assert not (mixed.maps["significant"] & (mixed.attribution == 0)).any()
    sampled = mixed.maps["standard_error"] > 0
    assert sampled.any()
    assert (mixed.maps["half_width"] > mixed.maps["standard_error"])[sampled].all()


def test_sampling_stops_where_the_interval_is_settled():
    batch = make_batch(image()[None])
    many = dataclasses.replace(SMALL, num_patches=20, num_screen=0, batch_size=None)
    wanted = run(DARKENED, batch, many)
    found = run(
        DARKENED,
        batch,
        dataclasses.replace(many, sequential=True),
    )
    np.testing.assert_array_equal(found.attribution, wanted.attribution)
    assert wanted.scores["num_interventions"][0] == 14 * 20
    assert found.scores["num_interventions"][0] == 14 * 10  # one round: all effects agree


@pytest.mark.slow
def test_where_sampling_stops_does_not_depend_on_the_batch():
    batch = make_batch(np.stack([image(0), image(1)]))
    careful = dataclasses.replace(
        SMALL, sequential=True, num_patches=25, outcome="soft_dice", threshold=0.05
    )
    wanted, found = (
        run(
            BLURRED,
            batch,
            dataclasses.replace(careful, batch_size=size),
        )
        for size in (None, 60)
    )
    np.testing.assert_allclose(found.attribution, wanted.attribution, atol=1e-4)
    many = 25 * 14 + 14 * 2
    assert (wanted.scores["num_interventions"] < many).all()
    np.testing.assert_array_equal(
        found.scores["num_interventions"], wanted.scores["num_interventions"]
    )


def test_a_block_larger_than_the_image():
    batch = make_batch(image()[None])
    batch.targets.region[:] = False
    batch.targets.region[0, 19, 35] = True
    found = run(
        make_problem(models.bright_pixels, None), batch, Ate(block_size=64, perturbation="zero")
    )
    assert found.status.tolist() == [Status.OK] or found.status.tolist() == [Status.EMPTY_TARGET]
    assert not found.attribution.any()  # the one block holds the region


def test_what_does_not_settle_is_sampled_to_the_end():
    batch = make_batch(np.stack([image(0), image(1)]))
    once = dataclasses.replace(SMALL, num_patches=25, num_screen=0, batch_size=None)
    # All interventions differ in soft Dice, and all but certain intervals are endless.
    once = dataclasses.replace(once, outcome="soft_dice", confidence=1 - 1e-16)
    wanted = run(BLURRED, batch, once)
    found = run(BLURRED, batch, dataclasses.replace(once, sequential=True))
    np.testing.assert_allclose(found.attribution, wanted.attribution, atol=1e-4)


@pytest.mark.parametrize("kind", ["zero", "mean", "blur", "noise"])
def test_content_made_from_the_image(kind):
    explained = run(
        make_problem(models.cued, None), make_batch(image()[None]), Ate(perturbation=kind)
    )
    here = explained.attribution[0, 3, 29]
    if kind == "noise":  # brighter than 0.5 about half of the time
        assert -100 < here < 0
        assert explained.maps["standard_error"][0, 3, 29] > 0
    elif kind == "zero":
        assert here == pytest.approx(-100, abs=1e-3)
    assert explained.status.tolist() == [Status.OK]


@pytest.mark.parametrize("outcome", ["soft_dice", "mean_probability"])
def test_soft_outcomes(outcome):
    batch = make_batch(image()[None])
    soft = dataclasses.replace(SMALL, outcome=outcome)
    explained = run(DARKENED, batch, soft)
    region = batch.targets.region[0]
    bright = batch.targets.reference[0] & region
    one, zero = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))
    if outcome == "mean_probability":
        wanted = 100 * (zero - one)
    else:
        dark = region.sum() - bright.sum()
        before = 2 * one * bright.sum() / (one * bright.sum() + zero * dark + bright.sum())
        after = 2 * zero * bright.sum() / (zero * region.sum() + bright.sum())
        wanted = 100 * (after - before)
    assert explained.attribution[0, 3, 29] == pytest.approx(wanted, abs=1e-3)
