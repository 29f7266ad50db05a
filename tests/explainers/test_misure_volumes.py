"""MiSuRe of volumes, on all devices."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import ndimage

from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import explain
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.explainers.misure.stages import Job
from jaxseg_xai.explainers.misure.windows import WindowView, plan_windows
from jaxseg_xai.ops.dice import hard_dice
from jaxseg_xai.ops.dilation import ellipse
from tests.explainers.models import two_classes
from tests.support import batch_of, problem_of, segmenter_of

SHAPE = (10, 18, 14)
SIDE = 3
LEVEL = 0.45
SEARCH = Misure(num_iterations=20, max_dilations=6, element_size=SIDE, windows=(8,))
PAPER = MisurePaper(
    num_iterations=12, max_dilations=6, element_size=SIDE, tv_weight=0.5, tv_power=2.0
)


def blurred_volume(variables, volumes):
    """Class 1 where the 5x5x5 mean is above `variables`."""
    kernel = jnp.full((5, 5, 5, 1, 1), 1 / 125)
    mean = lax.conv_general_dilated(
        volumes, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    return two_classes(50 * (mean[..., 0] - variables))


def balls(count):
    """Balls of two sizes in noise, float32 [count, *SHAPE, 1]."""
    z, y, x = np.indices(SHAPE)
    rng = np.random.default_rng(0)
    volumes = rng.uniform(0, 0.1, (count, *SHAPE, 1)).astype(np.float32)
    for number, volume in enumerate(volumes):
        centre = rng.uniform(4, 6), rng.uniform(5, 12), rng.uniform(5, 9)
        far = sum((a - b) ** 2 for a, b in zip((z, y, x), centre, strict=True))
        volume[far < 10 + 6 * (number % 2)] = 0.9
    return volumes


@pytest.fixture(scope="module")
def problem():
    return problem_of(blurred_volume, jnp.float32(LEVEL), rank=3)


@pytest.fixture(scope="module")
def batch(problem):
    return batch_of(problem, balls(8))


@pytest.fixture(scope="module", params=[SEARCH, PAPER], ids=lambda explainer: explainer.name)
def explained(request, problem, batch):
    return request.param, jax.device_get(explain(request.param, problem, batch, mesh=device_mesh()))


def seen(volume):
    return np.asarray(blurred_volume(LEVEL, volume[None])[0].argmax(-1) == 1)


def test_stage_1_is_the_sequential_rule(explained, batch):
    explainer, found = explained
    assert (found.status == Status.OK).all()
    for number, volume in enumerate(batch.images):
        segment = mask = seen(volume)
        trace = []
        while True:
            trace.append(float(hard_dice(seen(volume * mask[..., None]), segment)))
            if trace[-1] >= explainer.tau:
                break
            mask = ndimage.binary_dilation(mask, ellipse(SIDE, 3))
        assert found.scores["num_dilations"][number] == len(trace) - 1 > 0
        np.testing.assert_allclose(found.traces["dice"][number][: len(trace)], trace, atol=1e-6)
        np.testing.assert_array_equal(found.maps["sufficient_region"][number], mask)
        assert found.scores["dice_trace_area"][number] == pytest.approx(
            np.trapezoid(trace), abs=1e-5
        )


def test_stage_2_stays_inside_and_finds_less(explained, batch):
    explainer, found = explained
    inside = found.maps["sufficient_region"]
    assert found.attribution.shape == inside.shape == batch.images.shape[:-1]
    assert found.attribution.min() >= 0
    assert found.attribution.max() <= 1
    assert not found.attribution[~inside].any()
    assert (found.scores["area_minimal"] < found.scores["area_sufficient"]).all()
    if explainer is PAPER:
        assert (found.traces["loss"][:, -1] < found.traces["loss"][:, 0]).all()
        return
    for number, volume in enumerate(batch.images):
        region = found.maps["minimal_region"][number]
        dice = float(hard_dice(seen(volume * region[..., None]), seen(volume)))
        assert dice >= np.float32(explainer.tau)
        assert found.scores["dice_minimal"][number] == pytest.approx(dice, abs=1e-6)


def test_the_variation_has_a_term_an_axis(explained):
    explainer, found = explained
    if explainer is PAPER:
        steps = [np.diff(found.attribution, axis=axis) for axis in (1, 2, 3)]
        expected = sum(np.mean(step**2, axis=(1, 2, 3)) for step in steps)
        np.testing.assert_allclose(found.scores["loss_tv"], 0.5 * expected, rtol=1e-4)


def test_a_batch_over_all_devices_equals_one_by_one(explained, problem, batch):
    explainer, found = explained
    for number in (0, 5):
        one = jax.tree.map(lambda leaf, i=number: leaf[i : i + 1], batch)
        alone = explain(explainer, problem, one, mesh=device_mesh(jax.devices()[:1]))
        together = jax.tree.map(lambda leaf, i=number: leaf[i : i + 1], found)
        chex.assert_trees_all_close(together, jax.device_get(alone), atol=1e-5)


def test_a_coarse_mask_has_three_axes(batch):
    coarse = dataclasses.replace(PAPER, mask_stride=4)
    target = jax.tree.map(lambda leaf: leaf[0], batch.targets)
    job = Job(batch.images[0], target, np.where(target.segment, 0, 99), jnp.int32(0))
    state = coarse.start(job, 0)
    assert state.mask.shape == (3, 5, 4)
    in_pixels = coarse.found(job, state).mask
    np.testing.assert_array_equal(in_pixels > 0, target.segment)


@pytest.mark.parametrize("explainer", [Misure, pytest.param(MisurePaper, marks=pytest.mark.slow)])
def test_a_window_changes_nothing(explainer, problem):
    """Cubes of 12, cut off along the first axis, around small objects in boxes at the border."""
    volumes = np.full((2, *SHAPE, 1), 0.05, np.float32)
    volumes[0, 2:6, 0:5, 9:14] = volumes[1, 6:10, 10:15, 0:5] = 1.0
    region = np.zeros((2, *SHAPE), bool)
    region[0, 0:7, 0:7, 7:14] = region[1, 3:10, 9:16, 0:7] = True
    batch = batch_of(problem, volumes, region=region)
    assert batch.targets.segment.any(axis=(1, 2, 3)).all()
    settings = explainer(num_iterations=6, max_dilations=3, element_size=3, region_side=7)
    mesh = device_mesh(jax.devices()[:1])
    through, whole = (
        jax.device_get(explain(dataclasses.replace(settings, windows=w), problem, batch, mesh=mesh))
        for w in ((12,), ())
    )
    assert (through.status == Status.OK).all()
    chex.assert_trees_all_close(through, whole, atol=1e-4)
    (crop,) = plan_windows(problem.segmenter, problem.variables, (*SHAPE, 1), (12,), 7)
    assert crop.window == (10, 12, 12)
    view = WindowView(crop, problem.variables)
    masks = [jnp.asarray(whole.maps[name]) for name in ("sufficient_region", "minimal_region")]
    assert all(jax.vmap(view.holds)(mask, jnp.asarray(region)).all() for mask in masks)


@pytest.mark.parametrize(
    ("shape", "sides", "region_side", "windows"),
    [
        ((32, 32, 32), None, None, []),  # a small volume
        ((64, 64, 64), None, None, [(32, 32, 32)]),
        ((16, 128, 128), None, 20, [(16, 32, 32)]),  # an axis shorter than the box
        ((64, 64, 64), (16, 64, 99), None, [(16, 16, 16)]),
        ((8, 64, 64), (16, 40), 24, [(8, 40, 40)]),
    ],
)
def test_windows_of_volumes(shape, sides, region_side, windows):
    segmenter = segmenter_of(blurred_volume, rank=3)
    crops = plan_windows(segmenter, jnp.float32(LEVEL), (*shape, 1), sides, region_side)
    assert [crop.window for crop in crops] == windows
