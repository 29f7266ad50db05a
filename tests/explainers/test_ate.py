import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import Ate
from jaxseg_xai.outcomes.points import hard_dice_points as outcome
from tests.explainers import models
from tests.explainers.ate_inputs import HEIGHT, SMALL, WIDTH, image, make_batch, make_pool, run


def test_the_cue_block_carries_everything_and_its_effect_is_known():
    batch = make_batch(image()[None], make_pool(value=0.2))
    explained = run(models.cued, batch)
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
    batch = make_batch(image(cue=0.0)[None], make_pool(value=0.9))
    explained = run(models.cued, batch)
    assert explained.scores["base_dice"][0] == 0
    assert explained.attribution[0, 3, 29] == pytest.approx(100, abs=1e-3)
    assert explained.scores["num_positive"][0] == 1


def brute_force(predict, batch, explainer, draws):
    """The published algorithm: block by block, patch by patch."""
    variables, size = jnp.float32(0.4), explainer.block_size
    rows, columns = explainer.grid(HEIGHT, WIDTH)
    maps = np.zeros((len(batch.images), HEIGHT, WIDTH), np.float32)
    for b, picture in enumerate(batch.images):
        target = jax.tree.map(lambda leaf, b=b: jnp.asarray(leaf[b]), batch.targets)

        @jax.jit
        def dice_of(pixels, target=target):
            return outcome(predict(variables, pixels[None])[0], target)

        def dice(pixels, dice_of=dice_of):
            return float(dice_of(pixels))

        base = dice(picture)
        for block in range(rows * columns):
            y, x = block // columns * size, block % columns * size
            here = (slice(y, y + size), slice(x, x + size))
            if batch.targets.region[b][here].any():
                continue

            def effect(patch, picture=picture, here=here, dice=dice, base=base):
                changed = picture.copy()
                area = changed[here]
                changed[here] = np.asarray(draws.patches)[patch][: area.shape[0], : area.shape[1]]
                return dice(changed) - base

            if all(abs(effect(p)) < explainer.threshold for p in draws.screen[b, block]):
                continue
            ate = np.mean([effect(p) for p in draws.full[b, block]])
            maps[b][here] = ate if abs(ate) >= explainer.threshold else 0
    return maps


def test_equals_the_algorithm_done_one_at_a_time():
    batch = make_batch(np.stack([image(0), image(1)]), make_pool())
    draws = SMALL.draw(batch)
    expected = brute_force(models.blurred_brightness, batch, SMALL, draws)
    assert (expected != 0).any()
    assert ((expected == 0) & ~batch.targets.region).any()
    found = run(models.blurred_brightness, batch)
    np.testing.assert_allclose(found.attribution, expected, atol=1e-3)


@pytest.mark.parametrize(("batch_size", "num_devices"), [(1, 1), (200, 4), (None, 1)])
def test_no_result_depends_on_chunks_or_devices(batch_size, num_devices):
    batch = make_batch(np.stack([image(0), image(1)]), make_pool())
    wanted = run(models.blurred_brightness, batch)
    other = dataclasses.replace(SMALL, batch_size=batch_size)
    found = run(models.blurred_brightness, batch, other, jax.devices()[:num_devices])
    chex.assert_trees_all_equal(found, wanted)


def test_no_result_depends_on_the_other_images():
    images = np.stack([image(seed) for seed in range(2)])
    together = run(models.blurred_brightness, make_batch(images, make_pool()))
    alone = run(models.blurred_brightness, make_batch(images[1:2], make_pool(), first_id=2))
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[1:2], together), alone)


def test_an_image_never_gets_its_own_patches():
    pool = make_pool()
    pool.patches[:] = np.where(pool.sources == 102, 0.0, 0.9)[:, None, None, None]
    own = run(models.cued, make_batch(image()[None], pool, first_id=102))
    assert not own.attribution.any()  # the other images' patches are bright: the cue stays
    other = run(models.cued, make_batch(image()[None], pool, first_id=101), SMALL)
    assert other.attribution[0, 3, 29] <= 0


def test_zero_ablation_is_one_intervention_a_block():
    zero = Ate(perturbation="zero")
    explained = run(models.cued, make_batch(image()[None], None), zero)
    assert explained.attribution[0, 3, 29] == pytest.approx(-100, abs=1e-3)
    assert explained.scores["num_interventions"][0] == 14


def test_without_screening_every_block_gets_all_patches():
    explained = run(
        models.cued,
        make_batch(image()[None], make_pool()),
        dataclasses.replace(SMALL, num_screen=0),
    )
    assert explained.scores["num_interventions"][0] == 14 * 4


def test_only_the_wanted_blocks():
    batch = make_batch(np.stack([image(0), image(1)]), make_pool())
    everywhere = run(models.blurred_brightness, batch)
    wanted = np.zeros((2, 3, 5), bool)
    wanted[:, 2, 1] = True
    some = jax.jit(functools.partial(SMALL.explain, models.blurred_brightness, mesh=device_mesh()))
    draws = SMALL.draw(batch)
    there = some(jnp.float32(0.4), batch.images, batch.targets, draws, blocks=wanted)
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
    explained = run(
        models.bright_pixels, make_batch(images, make_pool(), region=region, reference=reference)
    )
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
    explained = run(models.overflowing, make_batch(images, make_pool()))
    assert explained.status.tolist() == [Status.OK, Status.NON_FINITE]


def test_interventions_whose_logits_are_not_finite():
    pool = make_pool()
    pool.patches[::3] = 1e30
    images = np.stack([image(0), image(1)])
    explained = run(models.overflowing, make_batch(images, pool))
    assert explained.status.tolist() == [Status.NON_FINITE] * 2
    assert not explained.attribution.any()
    assert np.isnan(explained.scores["num_zero"]).all()


def test_the_outcome_is_the_published_dice():
    logits = jnp.array([[[0.0, 1.0], [0.0, -1.0], [0.0, 2.0]]])
    target = SegmentTarget(
        class_index=jnp.int32(1),
        region=jnp.array([[True, True, False]]),
        reference=jnp.array([[True, True, True]]),
    )
    assert outcome(logits, target) == pytest.approx(100 * 2 / 3)
    nothing = dataclasses.replace(target, reference=jnp.zeros((1, 3), bool))
    assert outcome(-logits.at[..., 1].set(9.0), nothing) == 0


def test_a_missing_pool_is_refused():
    with pytest.raises(ConfigError, match="needs a patch pool"):
        SMALL.draw(make_batch(image()[None], None))


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
        dataclasses.replace(SMALL, **{field: value}).validate()
    SMALL.validate()


def test_examples_that_fill_up_a_batch_cost_nothing():
    whole = make_batch(np.stack([image(0), image(1)]), make_pool())
    part = dataclasses.replace(whole, valid=np.array([True, False]))
    explained, wanted = (run(models.blurred_brightness, batch) for batch in (part, whole))
    np.testing.assert_array_equal(explained.attribution[0], wanted.attribution[0])
    assert explained.scores["num_interventions"][1] == 0
    assert wanted.scores["num_interventions"][1] > 0


def test_a_box_around_the_region_changes_nothing():
    batch = make_batch(np.stack([image(0), image(1)]), make_pool())
    wanted = run(models.blurred_brightness, batch)
    for side in (8, 13):
        boxed = dataclasses.replace(SMALL, region_side=side)
        found = run(models.blurred_brightness, batch, boxed)
        np.testing.assert_array_equal(found.attribution, wanted.attribution)
        # What cannot reach the region is not evaluated.
        assert (found.scores["num_interventions"] <= wanted.scores["num_interventions"]).all()


def test_a_region_larger_than_its_box_is_said():
    batch = make_batch(np.stack([image(0), image(1)]), make_pool())
    batch.targets.region[1] = True
    boxed = dataclasses.replace(SMALL, region_side=8)  # the program of the test before
    explained = run(models.blurred_brightness, batch, boxed)
    assert explained.status.tolist() == [Status.OK, Status.REGION_TOO_LARGE]
    assert not explained.attribution[1].any()


def test_standard_errors_and_significance_are_those_of_the_effects():
    batch = make_batch(image()[None], make_pool(value=0.2))
    explained = run(models.cued, batch)
    significant = np.zeros((HEIGHT, WIDTH), bool)
    significant[0:8, 24:32] = True
    np.testing.assert_array_equal(explained.maps["significant"][0], significant)
    assert not explained.maps["standard_error"].any()  # every dark patch does the same
    assert explained.scores["num_significant"] == 1
    coarse = dataclasses.replace(SMALL, outcome="soft_dice", threshold=0.5, num_screen=0)
    mixed = run(models.blurred_brightness, make_batch(image()[None], make_pool()), coarse)
    # Only what is shown is called significant, and the interval is wider than the error.
    assert not (mixed.maps["significant"] & (mixed.attribution == 0)).any()
    sampled = mixed.maps["standard_error"] > 0
    assert sampled.any()
    assert (mixed.maps["half_width"] > mixed.maps["standard_error"])[sampled].all()


def test_sampling_stops_where_the_interval_is_settled():
    batch = make_batch(image()[None], make_pool(value=0.2))
    many = dataclasses.replace(SMALL, num_patches=20, num_screen=0, batch_size=None)
    wanted = run(models.cued, batch, many)
    found = run(models.cued, batch, dataclasses.replace(many, sequential=True))
    np.testing.assert_array_equal(found.attribution, wanted.attribution)
    assert wanted.scores["num_interventions"][0] == 14 * 20
    assert found.scores["num_interventions"][0] == 14 * 10  # one round: all effects agree


def test_where_sampling_stops_does_not_depend_on_the_batch():
    batch = make_batch(np.stack([image(0), image(1)]), make_pool())
    careful = dataclasses.replace(
        SMALL, sequential=True, num_patches=25, outcome="soft_dice", threshold=0.05
    )
    wanted, found = (
        run(models.blurred_brightness, batch, dataclasses.replace(careful, batch_size=size))
        for size in (None, 60)
    )
    np.testing.assert_allclose(found.attribution, wanted.attribution, atol=1e-4)
    many = 25 * 14 + 14 * 2
    assert (wanted.scores["num_interventions"] < many).all()
    np.testing.assert_array_equal(
        found.scores["num_interventions"], wanted.scores["num_interventions"]
    )


def test_a_block_larger_than_the_image():
    batch = make_batch(image()[None], None)
    batch.targets.region[:] = False
    batch.targets.region[0, 19, 35] = True
    found = run(models.bright_pixels, batch, Ate(block_size=64, perturbation="zero"))
    assert found.status.tolist() == [Status.OK] or found.status.tolist() == [Status.EMPTY_TARGET]
    assert not found.attribution.any()  # the one block holds the region


def test_what_does_not_settle_is_sampled_to_the_end():
    batch = make_batch(np.stack([image(0), image(1)]), make_pool())
    once = dataclasses.replace(SMALL, num_patches=25, num_screen=0, batch_size=None)
    # All interventions differ in soft Dice, and all but certain intervals are endless.
    once = dataclasses.replace(once, outcome="soft_dice", confidence=1 - 1e-16)
    wanted = run(models.blurred_brightness, batch, once)
    found = run(models.blurred_brightness, batch, dataclasses.replace(once, sequential=True))
    np.testing.assert_allclose(found.attribution, wanted.attribution, atol=1e-4)


@pytest.mark.parametrize("kind", ["zero", "mean", "blur", "noise"])
def test_content_made_from_the_image(kind):
    explained = run(models.cued, make_batch(image()[None], None), Ate(perturbation=kind))
    here = explained.attribution[0, 3, 29]
    if kind == "noise":  # brighter than 0.5 about half of the time
        assert -100 < here < 0
        assert explained.maps["standard_error"][0, 3, 29] > 0
    elif kind == "zero":
        assert here == pytest.approx(-100, abs=1e-3)
    assert explained.status.tolist() == [Status.OK]


@pytest.mark.parametrize("outcome", ["soft_dice", "mean_probability"])
def test_soft_outcomes(outcome):
    batch = make_batch(image()[None], make_pool(value=0.2))
    soft = dataclasses.replace(SMALL, outcome=outcome)
    explained = run(models.cued, batch, soft)
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


def test_patches_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"pool's patches are \(4, 4, 1\)"):
        SMALL.draw(make_batch(image()[None], make_pool(size=4)))
