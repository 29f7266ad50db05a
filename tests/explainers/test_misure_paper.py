import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import explain
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.stages import Job
from jaxseg_xai.explainers.runner import lower
from jaxseg_xai.ops.dice import hard_dice
from jaxseg_xai.ops.dilation import ellipse
from tests.explainers import models
from tests.support import batch_of, problem_of, target_of

SHAPE = (32, 40)
SMALL = MisurePaper(num_iterations=5, max_dilations=6)


def blob(seed=0, fraction=0.2):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 3)
    bright = noise > np.quantile(noise, 1 - fraction)
    return np.where(bright, 0.9, 0.1).astype(np.float32)[..., None]


def run(predict, image, variables=0.0, explainer=SMALL, region=None, **options):
    """A batch of one: function, image [H, W, C], its parameter -> explanation."""
    problem = problem_of(predict, jnp.float32(variables), **options)
    batch = batch_of(problem, image[None], region=None if region is None else region[None])
    found = explain(explainer, problem, batch, mesh=device_mesh(jax.devices()[:1]))
    explained = jax.tree.map(lambda leaf: leaf[0], found)
    chex.assert_tree_all_finite((explained.attribution, explained.maps))
    return explained


def test_a_model_that_looks_at_the_pixel_itself_needs_no_dilation():
    image = blob()
    explained = run(models.bright_pixels, image)
    assert explained.status == Status.OK
    assert explained.scores["num_dilations"] == 0
    assert explained.scores["dice_sufficient"] == 1
    np.testing.assert_array_equal(explained.maps["sufficient_region"], image[..., 0] > 0.5)
    assert np.isnan(explained.traces["dice"][1:]).all()
    assert explained.scores["area_sufficient"] == 1


def test_stage_1_is_the_sequential_rule():
    image, level = blob(1), 0.4
    explained = run(models.blurred_brightness, image, level)
    labels = np.asarray(models.blurred_brightness(level, image[None])[0].argmax(-1))
    mask, trace = labels == 1, []
    while True:
        seen = models.blurred_brightness(level, (image * mask[..., None])[None])[0].argmax(-1)
        trace.append(float(hard_dice(seen == 1, jnp.asarray(labels == 1))))
        if trace[-1] >= SMALL.tau:
            break
        mask = ndimage.binary_dilation(mask, ellipse(7))
    assert len(trace) > 2
    assert explained.scores["num_dilations"] == len(trace) - 1
    np.testing.assert_allclose(explained.traces["dice"][: len(trace)], trace, atol=1e-6)
    assert explained.scores["dice_start"] == pytest.approx(trace[0], abs=1e-6)
    assert explained.scores["dice_trace_area"] == pytest.approx(np.trapezoid(trace), abs=1e-5)
    np.testing.assert_array_equal(explained.maps["sufficient_region"], mask)


def test_stage_2_stays_inside_the_sufficient_region_and_lowers_the_loss():
    explained = run(models.blurred_brightness, blob(1), 0.4, MisurePaper(num_iterations=30))
    inside = np.asarray(explained.maps["sufficient_region"])
    mask = np.asarray(explained.attribution)
    assert mask.min() >= 0
    assert mask.max() <= 1
    assert not mask[~inside].any()
    losses = explained.traces["loss"]
    assert losses[-1] < losses[0]
    terms = [explained.scores[f"loss_{t}"] for t in ("foreground", "background", "l1", "tv")]
    assert explained.scores["loss"] == pytest.approx(float(sum(terms)), rel=1e-5)
    assert explained.scores["area_minimal"] == pytest.approx(
        float(mask.sum() / explained.scores["area_target"]), rel=1e-5
    )


def test_the_loss_of_the_first_mask_by_hand():
    image = blob()
    explainer = MisurePaper(num_iterations=1, tv_weight=0.5, tv_power=2.0, l1_weight=0.3)
    explained = run(models.bright_pixels, image, explainer=explainer)
    segment = (image[..., 0] > 0.5).astype(np.float64)
    probability = 1 / (1 + np.exp(-20 * (image[..., 0] * segment - 0.5)))
    dice = 2 * (probability * segment).sum() / (probability.sum() + segment.sum())
    other = 2 * ((1 - probability) * (1 - segment)).sum() / (2 - probability - segment).sum()
    variation = (np.diff(segment, axis=0) ** 2).mean() + (np.diff(segment, axis=1) ** 2).mean()
    expected = (1 - dice) + (2 - other - dice) / 2 + 0.3 * segment.mean() + 0.5 * variation
    assert explained.traces["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_a_class_that_is_absent():
    explained = run(models.bright_pixels, np.full((*SHAPE, 1), 0.1, np.float32))
    assert explained.status == Status.EMPTY_TARGET
    assert not explained.attribution.any()
    assert all(np.isnan(score) for score in explained.scores.values())


def test_an_empty_region():
    explained = run(models.bright_pixels, blob(), region=np.zeros(SHAPE, bool))
    assert explained.status == Status.EMPTY_REGION
    assert not explained.attribution.any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_not_finite(value):
    image = blob()
    image[3, 4] = value
    explained = run(models.bright_pixels, image)
    assert explained.status == Status.NON_FINITE
    assert not explained.attribution.any()


def test_a_model_that_is_not_finite():
    assert run(models.broken, blob()).status == Status.NON_FINITE


def test_a_region_that_is_never_sufficient_is_flagged_and_still_explained():
    region = np.zeros(SHAPE, bool)
    region[:4, :4] = True  # six dilations do not fill the image, and a black pixel spoils it
    explained = run(models.impossible, np.full((*SHAPE, 1), 0.5, np.float32), region=region)
    assert explained.status == Status.NOT_REACHED
    assert explained.scores["num_dilations"] == SMALL.max_dilations
    assert explained.attribution.any()


def test_only_the_region_is_explained():
    image = blob()
    region = np.zeros(SHAPE, bool)
    region[:, :20] = True
    explained = run(models.bright_pixels, image, region=region)
    np.testing.assert_array_equal(
        explained.maps["sufficient_region"], (image[..., 0] > 0.5) & region
    )


def test_weak_values_are_cut():
    explained = run(models.blurred_brightness, blob(1), 0.4, dataclasses.replace(SMALL, cut=0.5))
    mask = np.asarray(explained.attribution)
    assert ((mask == 0) | (mask >= 0.5)).all()


def test_a_coarse_mask_is_smooth_and_covers_the_image_in_pixels():
    coarse = dataclasses.replace(SMALL, mask_stride=4)
    explained = run(models.blurred_brightness, blob(1), 0.4, coarse)
    assert explained.attribution.shape == SHAPE
    target = target_of(problem_of(models.bright_pixels), blob(1))
    job = Job(blob(1), target, np.where(target.segment, 0, 99), jnp.int32(0))
    assert coarse.start(job, 0).mask.shape == (8, 10)


def make_batch(count, predict=models.blurred_brightness, level=0.35):
    """(problem, batch) of images that need different numbers of dilations."""
    problem = problem_of(predict, jnp.float32(level))
    images = np.stack([blob(seed, 0.1 + 0.05 * seed) for seed in range(count)])
    return problem, batch_of(problem, images)


@pytest.mark.slow
def test_a_batch_over_all_devices_equals_one_by_one():
    problem, batch = make_batch(8)
    together = explain(SMALL, problem, batch, mesh=device_mesh())
    assert len(together.attribution.sharding.device_set) == jax.local_device_count()
    on_one = explain(SMALL, problem, batch, mesh=device_mesh(jax.devices()[:1]))
    chex.assert_trees_all_close(together, on_one, atol=1e-6)
    for i in (0, 5):
        alone = run(models.blurred_brightness, batch.images[i], problem.variables)
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], together), alone, atol=1e-6
        )


def test_a_traced_number_does_not_recompile_a_static_one_does():
    traced = []

    def predict(variables, images):
        traced.append(images.shape)
        return models.blurred_brightness(variables, images)

    problem, batch = make_batch(4, predict)

    def traces_of(**changes):
        """Compiling takes long, and happens once a trace."""
        before = len(traced)
        lower(dataclasses.replace(SMALL, **changes), problem, batch, mesh=device_mesh())
        return len(traced) - before

    assert traces_of(l1_weight=0.1) > 0
    assert traces_of(l1_weight=0.2) == 0
    assert traces_of(num_iterations=6) > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tau", 0.0),
        ("tau", 1.5),
        ("tau", float("nan")),
        ("element_size", 4),
        ("learning_rate", 0.0),
        ("max_dilations", 0),
        ("num_iterations", 0),
        ("mask_stride", 0),
        ("l1_weight", -1.0),
        ("cut", -0.1),
        ("tv_power", 0.5),
    ],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(ConfigError, match=f"misure_paper.{field} is {value}"):
        check(dataclasses.replace(SMALL, **{field: value}), SMALL.name)
    check(SMALL, SMALL.name)


def test_a_loss_that_overflows_is_not_hidden_by_the_clipped_mask():
    weights = dict.fromkeys(("l1_weight", "foreground_weight", "background_weight"), 3e38)
    huge = dataclasses.replace(SMALL, tau=0.01, **weights)
    explained = run(models.blurred_brightness, blob(1), 0.4, huge)
    assert explained.status == Status.NON_FINITE
    assert not explained.attribution.any()
