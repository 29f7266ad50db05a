"""Block groups on models whose cues are known pixels: either is enough, or both are needed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from benchmarks.causes.sets import AS_DRAWN, known_sets
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers import explain
from jaxseg_xai.explainers.perturbation.block_groups import BlockGroups
from jaxseg_xai.models import load_model
from jaxseg_xai.ops.blocks import any_in_block, paint_blocks
from jaxseg_xai.outcomes import get_outcome
from tests.explainers import models
from tests.support import batch_of, problem_of

SIDE, BLOCK = 16, 4
#: The middle is explained; the cues lie in blocks 0 and 15, a third place in block 12.
REGION = np.zeros((2, SIDE, SIDE), bool)
REGION[:, 5:11, 5:11] = True
IMAGES = np.random.default_rng(0).uniform(0, 0.4, (2, SIDE, SIDE, 1)).astype(np.float32)
IMAGES[:, 1, 1] = IMAGES[:, 14, 14] = IMAGES[:, 14, 1] = 1
MESH = device_mesh(jax.devices()[:2])


def cues(images):
    return images[:, 1, 1, 0] > 0.5, images[:, 14, 14, 0] > 0.5


def segmented(images, where):
    return models.two_classes(jnp.where(where[:, None, None], 1.0, -1.0) * jnp.ones((SIDE, SIDE)))


def either(variables, images):
    first, second = cues(images)
    return segmented(images, first | second)


def both(variables, images):
    first, second = cues(images)
    return segmented(images, first & second)


def neither(variables, images):
    first, second = cues(images)
    return segmented(images, ~(first | second))


def run(model, images=IMAGES, reference=REGION, **settings):
    problem = problem_of(model)
    batch = batch_of(problem, images, region=REGION, reference=reference)
    return explain(BlockGroups(block_size=BLOCK, **settings), problem, batch, mesh=MESH)


def blocks(values):
    """One value a block, [2, 4, 4] as [2, 16]; all pixels of a block have it."""
    values = np.asarray(values)
    corners = values[:, ::BLOCK, ::BLOCK]
    np.testing.assert_array_equal(values, corners.repeat(BLOCK, 1).repeat(BLOCK, 2))
    return corners.reshape(2, -1)


@pytest.mark.parametrize(
    ("model", "necessary", "sufficient"), [(either, {0, 15}, None), (both, None, {0, 15})]
)
def test_both_cues_are_in_the_group(model, necessary, sufficient):
    found = run(model)
    assert (np.asarray(found.status) == Status.OK).all()
    for kind, expected in (("necessary", necessary), ("sufficient", sufficient)):
        for group in blocks(found.maps[kind]):
            named = set(np.flatnonzero(group))
            # Of two cues one does: which of them, the order decides.
            assert named == expected if expected else named in ({0}, {15})
    maps = blocks(found.attribution)
    assert (np.delete(maps, [0, 15], axis=1) == 0).all()
    np.testing.assert_allclose(maps.sum(axis=1), 1, rtol=1e-6)
    assert (maps[:, [0, 15]] >= 0.25).all()
    np.testing.assert_allclose(found.scores["outcome"], 100)
    np.testing.assert_allclose(found.scores["outcome_hidden"], 0)
    np.testing.assert_allclose(found.scores["outcome_without"], 0)
    np.testing.assert_allclose(found.scores["outcome_alone"], 100)
    assert set(np.asarray(found.scores["num_necessary"])) == {2.0 if necessary else 1.0}
    assert set(np.asarray(found.scores["num_sufficient"])) == {2.0 if sufficient else 1.0}


def test_blocks_that_speak_against_the_segment_are_negative():
    """The cues keep the model from segmenting: with them hidden it does."""
    maps = blocks(run(neither).attribution)
    assert (np.delete(maps, [0, 15], axis=1) == 0).all()
    assert (maps[:, [0, 15]] <= -0.25).all()


def test_a_region_that_touches_all_blocks_leaves_none():
    problem = problem_of(either)
    found = explain(BlockGroups(block_size=BLOCK), problem, batch_of(problem, IMAGES), mesh=MESH)
    assert (np.asarray(found.status) == Status.NO_BLOCKS).all()
    assert not np.any(found.attribution)


def test_nothing_elsewhere_gives_no_group():
    images = np.where(REGION[..., None], 1, IMAGES).astype(np.float32)
    found = run(models.bright_pixels, images)
    assert not np.any(found.attribution)
    assert not np.any(found.maps["necessary"])
    assert not np.any(found.maps["sufficient"])
    np.testing.assert_allclose(found.scores["outcome"], 100)
    np.testing.assert_allclose(found.scores["num_necessary"], 0)


def test_the_number_of_orders_and_of_images_at_a_time():
    """More orders keep the first ones, so that the smallest groups never grow."""
    few, many = (run(both, num_orders=n) for n in (1, 4))
    assert (many.scores["num_sufficient"] <= few.scores["num_sufficient"]).all()
    again = run(both, num_orders=4, batch_size=3)
    np.testing.assert_array_equal(many.attribution, again.attribution)
    singles, tries = 2 * 17, 8 * (2 * 16 + 4)
    assert BlockGroups(block_size=BLOCK).num_passes((SIDE, SIDE, 1)) == singles + tries


@pytest.mark.slow  # 40 s: a bundled network is compiled twice
@pytest.mark.parametrize("name", ["either", "both"])
def test_of_a_real_network_groups_are_enough_and_no_block_can_be_spared(name):
    """By the outcomes of whole images, none of them in windows."""
    side, outcome = 6, get_outcome("dice")
    known = next(one for one in known_sets() if one.name == name)
    bundle, drawn = load_model(known.model), known.draw("test", 2, **AS_DRAWN)
    problem = problem_of(bundle.segmenter, bundle.variables)
    region = np.stack([ndimage.binary_dilation(thing) for thing in drawn.objects])
    batch = batch_of(problem, drawn.images, region=region)
    found = explain(BlockGroups(block_size=side), problem, batch, mesh=MESH)

    @jax.jit
    def outcomes(image, target, shown):
        pixels = jax.vmap(lambda one: paint_blocks(one, side, region.shape[1:]))(shown)
        seen = jnp.where(pixels[..., None], image, jnp.mean(image, axis=(0, 1)))
        logits = bundle.segmenter.logits(bundle.variables, seen)
        return jax.vmap(lambda one: outcome.value(bundle.segmenter.output, one, target))(logits)

    for i, image in enumerate(drawn.images):
        target = jax.tree.map(lambda leaf, i=i: leaf[i], batch.targets)
        free = ~np.asarray(any_in_block(jnp.asarray(region[i]), side))
        blocks = np.eye(free.size, dtype=bool).reshape(free.size, *free.shape)
        for kind, score in (("necessary", "outcome_without"), ("sufficient", "outcome_alone")):
            group = np.asarray(found.maps[kind][i])[::side, ::side]
            assert group.sum() == found.scores[f"num_{kind}"][i] > 0
            smaller = [group & ~block for block in blocks if (block & group).any()]
            tried = np.stack([np.ones_like(free), np.zeros_like(free), group, *smaller])
            shown = ~free | (tried if kind == "sufficient" else ~tried)
            values = np.asarray(outcomes(image, target, shown))
            (first, second, of_group), less = values[:3], values[3:]
            whole, hidden = (first, second) if kind == "sufficient" else (second, first)
            tau = hidden + 0.5 * (whole - hidden)
            assert whole > hidden + 50
            np.testing.assert_allclose(of_group, found.scores[score][i], atol=0.01)
            assert (of_group > tau) == (kind == "sufficient")
            assert ((less > tau) == (kind == "necessary")).all()
