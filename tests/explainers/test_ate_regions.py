"""Many regions of one image in one pass: explained as one at a time, with fewer interventions."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh
from tests.explainers import models
from tests.explainers.ate_inputs import (
    HEIGHT,
    SMALL,
    WIDTH,
    ids_of,
    image,
    make_batch,
    make_pool,
    make_problem,
    run,
)

BLURRED = make_problem(models.blurred_brightness)

#: Class, and rows and columns of the box; they overlap, and the last is empty.
BOXES = [
    (1, slice(8, 16), slice(8, 16)),
    (0, slice(8, 16), slice(8, 16)),
    (1, slice(2, 12), slice(12, 23)),
    (1, slice(17, 20), slice(30, 36)),
    (1, slice(0), slice(0)),
]
#: Fills up to as many regions as there are boxes, so that tests share their programs.
EMPTY = BOXES[4]
SEQUENTIAL = dataclasses.replace(
    SMALL, sequential=True, outcome="soft_dice", num_patches=25, threshold=0.05
)


def region_batch(count=2, boxes=BOXES):
    batch = make_batch(np.stack([image(seed) for seed in range(count)]))
    bright = batch.targets.reference
    region = np.zeros((count, len(boxes), HEIGHT, WIDTH), bool)
    for r, (_, rows, columns) in enumerate(boxes):
        region[:, r, rows, columns] = True
    classes = np.array([c for c, _, _ in boxes], np.int32)
    targets = SegmentTarget(
        class_index=np.tile(classes, (count, 1)),
        region=region,
        reference=np.stack([bright if c else ~bright for c in classes], axis=1),
    )
    return dataclasses.replace(batch, targets=targets)


def one_by_one(problem, batch, explainer):
    """`explain` of every region alone, with the draws of all of them."""
    alone = jax.jit(functools.partial(explainer.explain, mesh=device_mesh()))
    draws = explainer.draw(problem, batch)
    found = []
    for r in range(batch.targets.region.shape[1]):
        target = jax.tree.map(lambda leaf, r=r: leaf[:, r], batch.targets)
        found.append(alone(problem, batch.images, target, draws))
    return jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *found)


def without(explained, name):
    """The explanation, and a score that is taken out of it."""
    scores = dict(explained.scores)
    taken = scores.pop(name)
    return dataclasses.replace(explained, scores=scores), taken


@pytest.mark.parametrize(
    "explainer",
    [
        pytest.param(SMALL, id="dice"),
        pytest.param(SEQUENTIAL, id="sequential"),
    ],
)
def test_regions_together_are_explained_as_one_by_one(explainer):
    batch = region_batch()
    wanted = one_by_one(BLURRED, batch, explainer)
    found, evaluated = without(run(BLURRED, batch, explainer), "num_evaluated")
    chex.assert_trees_all_close(found, wanted, atol=1e-4)
    if explainer.sequential:
        settled = found.scores["num_interventions"][:, :4]
        assert len(np.unique(settled[0])) > 1  # every region stops when it is sure itself
    assert (found.status == np.array([Status.OK] * 4 + [Status.EMPTY_REGION])).all()
    assert np.any(found.attribution, axis=(2, 3))[:, :2].all()
    assert not np.any(found.attribution[:, 4])
    # Some blocks are evaluated for one region only, many for all, none for the empty one.
    made = found.scores["num_interventions"]
    assert (made[:, :4] > 0).all()
    assert not made[:, 4].any()
    assert (evaluated == evaluated[:, :1]).all()
    assert (evaluated >= made.max(axis=1, keepdims=True)).all()
    assert (evaluated < made.sum(axis=1, keepdims=True)).all()


def test_every_block_outside_one_region_is_evaluated_once():
    batch = region_batch(1)
    explained = run(BLURRED, batch, dataclasses.replace(SMALL, num_screen=0, batch_size=None))
    # The blocks that the regions touch, of 3 x 5; each lies outside some other region.
    made = [(15 - touched) * SMALL.num_patches for touched in (1, 1, 4, 2)]
    assert explained.scores["num_interventions"][0].tolist() == [*made, 0]
    assert explained.scores["num_evaluated"][0].tolist() == [15 * SMALL.num_patches] * 5


@pytest.mark.slow
def test_no_result_depends_on_chunks_devices_or_regions_that_fill_up():
    batch = region_batch()
    wanted = run(BLURRED, batch)
    other = dataclasses.replace(SMALL, batch_size=200)
    alone = run(BLURRED, batch, other, jax.devices()[:1])
    chex.assert_trees_all_equal(alone, wanted)
    fewer = run(BLURRED, region_batch(boxes=BOXES[:4]))
    chex.assert_trees_all_equal(fewer, jax.tree.map(lambda leaf: leaf[:, :4], wanted))


@pytest.mark.slow
def test_a_box_around_all_regions_changes_nothing():
    batch = region_batch(boxes=[*BOXES[:3], EMPTY, EMPTY])  # rows 2 to 15, columns 8 to 22
    wanted = run(BLURRED, batch)
    found = run(BLURRED, batch, dataclasses.replace(SMALL, region_side=15))
    np.testing.assert_array_equal(found.attribution, wanted.attribution)
    assert (found.scores["num_evaluated"] < wanted.scores["num_evaluated"]).all()
    near = run(BLURRED, batch, dataclasses.replace(SMALL, region_side=14))
    statuses = [Status.OK, Status.OK, Status.REGION_TOO_LARGE] + [Status.EMPTY_REGION] * 2
    assert near.status.tolist() == [statuses] * 2
    np.testing.assert_array_equal(near.attribution[:, :2], wanted.attribution[:, :2])
    assert not near.attribution[:, 2].any()


def test_a_region_that_cannot_be_explained_does_not_spoil_the_others():
    boxes = [(1, slice(8, 16), slice(0, 8)), (1, slice(8, 16), slice(28, 36)), *BOXES[:1]]
    problem = make_problem(models.blurred_brightness, make_pool(value=np.inf))
    batch = region_batch(1, boxes)
    batch.targets.reference[:, 2] = False
    blocks = np.zeros((1, 3, 5), bool)
    blocks[0, 1, 2:4] = True  # columns 16 to 31: too far from the first region, in the second
    blocks[0, 0, 3] = True  # near the second only
    explained = SMALL.explain(
        problem,
        batch.images,
        batch.targets,
        SMALL.draw(problem, batch),
        device_mesh(),
        jnp.asarray(blocks),
    )
    assert explained.status.tolist() == [[Status.OK, Status.NON_FINITE, Status.EMPTY_TARGET]]
    chex.assert_tree_all_finite((explained.attribution, explained.maps))
    scores = {name: np.isnan(score[0]).tolist() for name, score in explained.scores.items()}
    assert scores["base_dice"] == scores["num_zero"] == [False, True, True]
    assert explained.scores["num_zero"][0, 0] == 3


@pytest.mark.parametrize("perturbation", ["patches", "noise"])
def test_draws_of_regions_depend_on_the_image_alone(perturbation):
    explainer = dataclasses.replace(SMALL, perturbation=perturbation)
    draw = functools.partial(explainer.draw, BLURRED)
    wanted = draw(region_batch())
    chex.assert_trees_all_equal(draw(region_batch(boxes=BOXES[1:2])), wanted)
    other = dataclasses.replace(region_batch(), image_ids=ids_of([1, 7]))
    used = [np.asarray(d.patches)[d.full] for d in (wanted, draw(other))]
    np.testing.assert_array_equal(used[0][0], used[1][0])
    assert (used[0][1] != used[1][1]).any()


def test_targets_that_do_not_fit_the_images_are_refused():
    batch = region_batch()
    targets = dataclasses.replace(batch.targets, class_index=np.ones(2, np.int32))
    with pytest.raises(AssertionError, match="shape"):
        SMALL.explain(BLURRED, batch.images, targets, SMALL.draw(BLURRED, batch), device_mesh())


def test_a_region_that_is_too_large_spoils_no_other():
    batch = region_batch(boxes=[*BOXES[:2], EMPTY, EMPTY, EMPTY])
    wanted = run(BLURRED, batch, dataclasses.replace(SMALL, region_side=15))
    targets = jax.tree.map(lambda leaf: np.roll(leaf, 1, axis=1), batch.targets)
    targets.region[:, 0] = targets.reference[:, 0] = True
    batch = dataclasses.replace(batch, targets=targets)
    found = run(BLURRED, batch, dataclasses.replace(SMALL, region_side=15))
    statuses = [Status.REGION_TOO_LARGE, Status.OK, Status.OK] + [Status.EMPTY_REGION] * 2
    assert found.status.tolist() == [statuses] * 2
    np.testing.assert_array_equal(found.attribution[:, 1:], wanted.attribution[:, :-1])


def test_no_regions_and_blocks_of_another_grid_are_refused():
    batch = region_batch()
    nothing = jax.tree.map(lambda leaf: leaf[:, :0], batch.targets)
    with pytest.raises(AssertionError):
        run(BLURRED, dataclasses.replace(batch, targets=nothing))
    with pytest.raises(AssertionError):
        SMALL.explain(
            BLURRED,
            batch.images,
            batch.targets,
            SMALL.draw(BLURRED, batch),
            device_mesh(jax.devices()[:1]),
            blocks=np.ones((len(batch.images), 1, 1), bool),
        )
