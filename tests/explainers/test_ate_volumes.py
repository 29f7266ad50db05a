"""The ATE and its gradient form on volumes, and windows against the whole model."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers.ate import plans
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.ate.engine import Work
from jaxseg_xai.explainers.ate.gradient import AteGradient
from jaxseg_xai.explainers.ate.whole import WholeEngine
from jaxseg_xai.explainers.ate.windowed import WindowedEngine
from jaxseg_xai.explainers.perturbation.kernel_shap import KernelShap
from jaxseg_xai.explainers.perturbation.occlusion import Occlusion
from jaxseg_xai.explainers.perturbation.rise import Rise
from jaxseg_xai.explainers.perturbation.shapley_sampling import ShapleySampling
from jaxseg_xai.outcomes import get_outcome
from tests.explainers import models
from tests.explainers.ate_inputs import (
    SMALL,
    brute_force,
    image,
    make_batch,
    make_pool,
    make_problem,
    run,
)

SLOW = pytest.mark.slow
SHAPE = (6, 8, 10)  # blocks of 4: cut off along the first and the last axis
EXPLAINER = Ate(block_size=4, num_screen=2, num_patches=3)


def smooth(variables, volumes):
    """Class 1 by a tanh of the mean of the 5x5x5 voxels around."""

    def total(x):
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 5, 5, 5), (1, 1, 1, 1), "SAME")

    mean = total(volumes[..., 0]) / total(jnp.ones_like(volumes[..., 0]))
    return models.two_classes(3 * jnp.tanh(8 * (mean - variables)))


PROBLEM = make_problem(smooth, make_pool(shape=(4, 4, 4, 1)), jnp.float32(0.5), rank=3)


def volume_batch(count=2, first=0):
    # In these the class is in some of the region's voxels, near the limit.
    rngs = [np.random.default_rng(4 + first + n) for n in range(count)]
    volumes = [rng.random((*SHAPE, 1)) for rng in rngs]
    region = np.zeros((count, *SHAPE), bool)
    region[:, 4:6, 0:4, 4:8] = True
    return make_batch(np.stack(volumes).astype(np.float32), region=region, first_id=1 + first)


@pytest.fixture(scope="module")
def explained():
    return run(PROBLEM, volume_batch(), EXPLAINER)


def test_equals_the_algorithm_done_one_at_a_time(explained):
    batch = volume_batch()
    expected = brute_force(PROBLEM, batch, EXPLAINER, EXPLAINER.draw(PROBLEM, batch))
    assert (np.count_nonzero(expected, axis=(1, 2, 3)) > 4**3).all()
    np.testing.assert_allclose(explained.attribution, expected, atol=1e-3)
    assert not np.asarray(explained.attribution)[:, 4:6, 0:4, 4:8].any()
    assert explained.status.tolist() == [Status.OK, Status.OK]


@pytest.mark.slow
def test_the_same_alone_on_one_device_and_in_chunks(explained):
    other = dataclasses.replace(EXPLAINER, batch_size=2)
    chex.assert_trees_all_close(run(PROBLEM, volume_batch(), other), explained, atol=1e-4)
    alone = run(PROBLEM, volume_batch(1, first=1), EXPLAINER, jax.devices()[:1])
    second = jax.tree.map(lambda leaf: leaf[1:], explained)
    chex.assert_trees_all_close(alone, second, atol=1e-4)


def test_regions_boxes_and_rounds():
    batch = volume_batch()
    several = jax.tree.map(lambda leaf: np.stack([leaf, leaf], axis=1), batch.targets)
    several.region[:, 1] = False
    several.region[:, 1, 0, 0:2, 2] = several.reference[:, 1] = True
    batch = dataclasses.replace(batch, targets=several)
    explainer = dataclasses.replace(EXPLAINER, outcome="soft_dice", num_patches=20, sequential=True)
    wanted = run(PROBLEM, batch, explainer)
    assert (np.asarray(wanted.attribution) != 0).any(axis=(2, 3, 4)).all()
    assert wanted.scores["num_interventions"].min() >= 10
    near = run(PROBLEM, batch, explainer.in_box(4))
    # The box begins where the second region does, and the first is too far from there.
    assert near.status.tolist() == [[Status.REGION_TOO_LARGE, Status.OK]] * 2
    assert not near.attribution[:, 0].any()
    np.testing.assert_allclose(near.attribution[:, 1], wanted.attribution[:, 1], atol=1e-4)


@pytest.mark.parametrize(
    ("problem", "batch", "explainer"),
    [
        (
            make_problem(models.blurred_brightness),
            make_batch(np.stack([image(0), image(1)])),
            SMALL,
        ),
        (PROBLEM, volume_batch(), EXPLAINER),
    ],
    ids=["images", "volumes"],
)
def test_the_whole_engine_agrees_with_the_windows(monkeypatch, problem, batch, explainer):
    windowed = run(problem, batch, explainer)
    built = []

    def build(*arguments):
        built.append(arguments)
        return WholeEngine.build(*arguments)

    monkeypatch.setattr(WindowedEngine, "build", build)
    # Another setting, so that the program is not the one of the windows.
    whole = run(problem, batch, dataclasses.replace(explainer, batch_size=4))
    assert built
    chex.assert_trees_all_close(whole, windowed, atol=1e-4)


@pytest.mark.parametrize(
    "explainer",
    [
        Occlusion(block_size=4),
        Rise(num_masks=6, outcome="soft_dice"),
        ShapleySampling(players="labels", outcome="true_positives"),
        pytest.param(KernelShap(block_size=4, players="superpixels", num_samples=48), marks=SLOW),
        pytest.param(KernelShap(players="labels", outcome="false_positives"), marks=SLOW),
        pytest.param(ShapleySampling(block_size=6, num_pairs=2, outcome="soft_dice"), marks=SLOW),
    ],
)
def test_parts_of_volumes_that_are_hidden(explainer):
    batch = volume_batch()
    near, whole = (run(PROBLEM, batch, e) for e in (explainer.in_box(4), explainer))
    assert near.status.tolist() == [Status.OK, Status.OK]
    assert np.ptp(whole.attribution) > 0.1
    # In a box fewer players can change anything, and fewer coalitions are asked for.
    for name in {"num_players", "num_evaluations"} & near.scores.keys():
        assert (near.scores.pop(name) <= whole.scores.pop(name)).all()
    chex.assert_trees_all_close(near, whole, atol=1e-3)


def whole_mean(variables, images):
    """The blur of the image less its mean: nothing of it has windows."""
    mean = images.mean((1, 2, 3), keepdims=True)
    return models.blurred_brightness(variables, images - mean + variables)


def built(model, **options):
    problem = make_problem(model)
    work = Work(shape=(32, 32, 1), block_size=4, num_regions=1, round_size=None, **options)
    mesh = device_mesh(jax.devices()[:1])
    return WindowedEngine.build(
        problem.segmenter, problem.variables, get_outcome("dice"), work, mesh
    )


def test_where_windows_save_nothing_the_whole_model_runs():
    options = {"num_patches": 20, "batch_size": None}
    assert isinstance(built(whole_mean, region_side=None, **options), WholeEngine)
    assert not isinstance(built(whole_mean, region_side=8, **options), WholeEngine)
    assert not isinstance(
        built(models.blurred_brightness, region_side=None, **options), WholeEngine
    )
    problem, batch = make_problem(whole_mean), make_batch(image(0)[None])
    found = run(problem, batch)
    expected = brute_force(problem, batch, SMALL, SMALL.draw(problem, batch))
    np.testing.assert_allclose(found.attribution, expected, atol=1e-3)
    assert np.abs(expected).max() > 0.1


def test_large_windows_are_evaluated_few_at_a_time(monkeypatch):
    options = {"region_side": 8, "num_patches": 20}
    few = built(models.blurred_brightness, batch_size=None, **options)
    assert few.per_call == few.plan.num_patches == 10
    monkeypatch.setattr(plans, "_CPU_BYTES", 3 * few.plan.largest_window_bytes)
    fewer = built(models.blurred_brightness, batch_size=None, **options)
    assert fewer.per_call == fewer.plan.num_patches == 3
    assert built(models.blurred_brightness, batch_size=5, **options).per_call == 5


def test_the_gradient_form_of_a_smooth_outcome():
    explainer = AteGradient(block_size=4, num_fields=2, num_nodes=8)
    batch = volume_batch(4)
    found = run(PROBLEM, batch, explainer)
    assert found.status.tolist() == [Status.OK] * 4
    blocks = np.asarray(found.attribution)[:, ::4, ::4, ::4]
    totals = blocks.sum(axis=(1, 2, 3))
    assert np.abs(totals).min() > 0.1
    np.testing.assert_allclose(totals, found.scores["field_effect"], atol=5e-3)
    assert not np.asarray(found.attribution)[:, 4:6, 0:4, 4:8].any()
    alone = run(PROBLEM, volume_batch(1, first=2), explainer, jax.devices()[:1])
    third = jax.tree.map(lambda leaf: leaf[2:3], found)
    chex.assert_trees_all_close(alone, third, atol=1e-4)


def test_the_first_order_of_few_changes_is_the_effect_of_replacing_the_block():
    # Patches that are almost the volume's content: O is linear over so short a step.
    value = 0.5
    volumes = np.full((1, *SHAPE, 1), value, np.float32)
    batch = dataclasses.replace(volume_batch(1), images=volumes)
    problem = make_problem(
        smooth, make_pool(shape=(4, 4, 4, 1), value=value + 0.01), jnp.float32(0.4), rank=3
    )
    exact = Ate(block_size=4, num_screen=0, num_patches=1, outcome="soft_dice", threshold=0.0)
    gradient = AteGradient(block_size=4, num_fields=1)
    one = jax.devices()[:1]
    wanted, found = (run(problem, batch, e, one).attribution for e in (exact, gradient))
    assert np.abs(wanted).max() > 0.01
    np.testing.assert_allclose(found, wanted, atol=0.05 * float(np.abs(wanted).max()))
