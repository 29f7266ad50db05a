import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.data import PatchPool, draw_patches
from jaxseg_xai.devices.mesh import device_mesh
from jaxseg_xai.explainers.ate.gradient import AteGradient
from jaxseg_xai.explainers.base import Batch, explain
from jaxseg_xai.ops.blocks import replace_block
from jaxseg_xai.outcomes.points import OUTCOMES
from tests.explainers import models

HEIGHT, WIDTH = 20, 36  # blocks of 8: the last row and column are cut off
ROWS, COLUMNS = 3, 5
KEY = jax.random.key(5)
SMALL = AteGradient(num_fields=3)
LEVEL = jnp.float32(0.4)


def linear_probability(variables, images):
    """p = a weighted sum of all pixels, the same in every pixel: linear, and global."""
    weights = jnp.cos(jnp.arange(images[0].size)).reshape(images.shape[1:]) / images[0].size
    p = 0.5 + variables * jnp.sum(weights * images, axis=(1, 2, 3))
    p = jnp.broadcast_to(p[:, None, None], images.shape[:3])
    return jnp.stack([jnp.log(1 - p), jnp.log(p)], axis=-1)


def smooth(variables, images):
    """Class 1 by a tanh of the 15x15 mean."""
    kernel = jnp.full((15, 15, 1, 1), 1 / 225)
    mean = lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return models.two_classes(3 * jnp.tanh(4 * (mean[..., 0] - variables)))


def steep_at_zero(variables, images):
    """Finite logits whose gradient is infinite where a pixel is exactly 0."""
    return models.two_classes(jnp.sqrt(images[..., 0]) - 0.5)


def picture(seed=0):
    return np.random.default_rng(seed).random((HEIGHT, WIDTH, 1)).astype(np.float32)


def make_pool(count=40, shape=(8, 8, 1)):
    patches = np.random.default_rng(9).random((count, *shape)).astype(np.float32)
    return PatchPool(patches=patches, sources=np.sort(np.arange(count) % 5 + 100).astype(np.uint32))


def make_batch(count=1, pool=None, first_id=1, images=None):
    if images is None:
        images = np.stack([picture(seed) for seed in range(count)])
    region = np.zeros((len(images), HEIGHT, WIDTH), bool)
    region[:, 8:16, 8:16] = True
    return Batch(
        images=images,
        targets=SegmentTarget(
            class_index=np.ones(len(images), np.int32),
            region=region,
            reference=np.nan_to_num(images[..., 0]) > 0.5,
        ),
        valid=np.ones(len(images), bool),
        image_ids=np.arange(first_id, first_id + len(images), dtype=np.uint32),
        pool=make_pool() if pool is None else pool,
        key=KEY,
    )


def run(predict, batch, explainer=SMALL, devices=None, variables=LEVEL):
    mesh = device_mesh(jax.devices()[:1] if devices is None else devices)
    explained = explain(explainer, variables, batch, predict=predict, mesh=mesh)
    chex.assert_tree_all_finite((explained.attribution, explained.maps))
    return explained


def example(batch, i=0):
    return batch.images[i], jax.tree.map(lambda leaf: leaf[i], batch.targets)


def patches_of(batch, explainer, i=0):
    """Patches [fields, blocks, b, b, C] that the explainer draws."""
    folded = jax.random.fold_in(KEY, batch.targets.class_index[i])
    found = draw_patches(
        folded, batch.image_ids[i], batch.pool, ROWS * COLUMNS, explainer.num_fields
    )
    return batch.pool.patches[np.asarray(found).T]


def blocks_outside():
    return [k for k in range(ROWS * COLUMNS) if k != COLUMNS + 1]


def per_block(attribution):
    """One pixel of every block."""
    return np.asarray(attribution)[::8, ::8].ravel()


@pytest.mark.parametrize("num_nodes", [1, 3])
def test_a_linear_outcome_gives_the_exact_effect_of_replacing_each_block_alone(num_nodes):
    batch = make_batch()
    explainer = dataclasses.replace(SMALL, num_nodes=num_nodes, outcome="mean_probability")
    explained = run(linear_probability, batch, explainer, variables=jnp.float32(20.0))
    image, target = example(batch)
    outcome = OUTCOMES["mean_probability"]

    @jax.jit
    def effect(patch, block):
        seen = (replace_block(image, patch, block), image)
        changed, base = (outcome(linear_probability(20.0, x[None])[0], target) for x in seen)
        return changed - base

    expected, patches = np.zeros(ROWS * COLUMNS), patches_of(batch, explainer)
    for block in blocks_outside():
        expected[block] = np.mean([effect(patch, block) for patch in patches[:, block]])
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(per_block(explained.attribution[0]), expected, atol=2e-4)
    assert explained.scores["completeness_gap"][0] < 1e-3
    assert explained.scores["field_effect"][0] == pytest.approx(expected.sum(), abs=1e-3)


def test_the_first_order_effect_is_the_finite_difference():
    batch, step = make_batch(), 1e-2
    explained = run(smooth, batch)
    image, target = example(batch)

    @jax.jit
    def slope(patch, block):
        change = step * (replace_block(image, patch, block) - image)
        after, before = (
            OUTCOMES["soft_dice"](smooth(LEVEL, x[None])[0], target)
            for x in (image + change, image - change)
        )
        return (after - before) / (2 * step)

    for block in (1, 5, 14):
        slopes = [slope(patch, block) for patch in patches_of(batch, SMALL)[:, block]]
        found = per_block(explained.attribution[0])[block]
        assert found == pytest.approx(np.mean(slopes), abs=2e-3)


def test_the_completeness_gap_vanishes_with_more_nodes():
    batch = make_batch()
    gaps = [
        float(
            run(smooth, batch, dataclasses.replace(SMALL, num_nodes=n)).scores["completeness_gap"][
                0
            ]
        )
        for n in (1, 2, 8)
    ]
    assert gaps[0] > 0.05
    assert gaps[1] < gaps[0] / 5
    assert gaps[2] < 1e-4
    assert gaps[2] <= gaps[1]


def test_the_path_integral_adds_up_to_the_effect_of_the_whole_field():
    explained = run(smooth, make_batch(), dataclasses.replace(SMALL, num_nodes=8))
    total = per_block(explained.attribution[0]).sum()
    assert total == pytest.approx(float(explained.scores["field_effect"][0]), abs=1e-3)


def test_blocks_that_touch_the_region_have_no_effect():
    explained = run(smooth, make_batch())
    assert not np.asarray(explained.attribution)[0, 8:16, 8:16].any()
    assert np.asarray(explained.attribution)[0, :8, 8:16].all()
    batch = make_batch()
    batch.targets.region[:, 16, 8] = True  # one pixel of the block below
    explained = run(smooth, batch)
    assert not np.asarray(explained.attribution)[0, 8:20, 8:16].any()


def test_blocks_that_cannot_be_seen_have_no_effect_and_helpful_ones_are_negative():
    image = np.full((1, HEIGHT, WIDTH, 1), 0.9, np.float32)
    pool = make_pool()
    pool.patches[:] = 0.1
    explained = run(smooth, make_batch(images=image, pool=pool))
    effects = per_block(explained.attribution[0])
    assert not effects[[4, 9, 14]].any()  # further than 7 pixels from the region
    assert effects[[1, 5]].max() < 0


def test_the_same_alone_and_on_any_number_of_devices():
    batch = make_batch(4)
    together = run(smooth, batch, devices=jax.devices())
    assert len(together.attribution.sharding.device_set) == 4
    chex.assert_trees_all_close(together, run(smooth, batch), atol=1e-5)
    for i in (0, 3):
        alone = run(smooth, make_batch(images=batch.images[i : i + 1], first_id=1 + i))
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], together), alone, atol=1e-5
        )


def test_jit_equals_eager():
    batch = make_batch()
    image, target = example(batch)
    explainer = dataclasses.replace(SMALL, num_nodes=2)
    eager = explainer.explain(smooth, LEVEL, batch.pool, KEY, image, target, batch.image_ids[0])
    jitted = jax.tree.map(lambda leaf: leaf[0], run(smooth, batch, explainer))
    chex.assert_trees_all_close(eager, jitted, atol=1e-4)


def test_the_standard_error_is_that_of_the_mean_over_fields():
    batch = make_batch()
    one = [dataclasses.replace(SMALL, num_fields=n) for n in (1, 2)]
    first, both = (run(smooth, batch, explainer) for explainer in one)
    assert "standard_error" not in first.maps
    a = per_block(first.attribution[0])
    b = 2 * per_block(both.attribution[0]) - a  # the draws of field 0 are the same
    np.testing.assert_allclose(
        per_block(both.maps["standard_error"][0]), np.abs(a - b) / 2, atol=1e-5
    )


def test_statuses_side_by_side():
    batch = make_batch(4)
    batch.targets.reference[0] = False
    batch.targets.region[1] = False
    batch.images[2, 0, 0] = np.nan
    explained = run(smooth, batch)
    assert explained.status.tolist() == [
        Status.EMPTY_TARGET,
        Status.EMPTY_REGION,
        Status.NON_FINITE,
        Status.OK,
    ]
    assert not np.asarray(explained.attribution)[:3].any()
    assert np.isnan(explained.scores["completeness_gap"][:3]).all()
    assert np.isfinite(explained.scores["completeness_gap"][3])


def test_logits_fields_and_gradients_that_are_not_finite():
    assert run(models.broken, make_batch()).status.tolist() == [Status.NON_FINITE]
    pool = make_pool()
    pool.patches[:] = 1e30
    assert run(models.overflowing, make_batch(pool=pool)).status.tolist() == [Status.NON_FINITE]
    black = np.zeros((1, HEIGHT, WIDTH, 1), np.float32)
    batch = make_batch(images=black)
    batch.targets.reference[:] = True
    assert run(steep_at_zero, batch).status.tolist() == [Status.NON_FINITE]


def test_a_missing_or_unsuitable_pool_is_refused():
    batch = dataclasses.replace(make_batch(), pool=None)
    with pytest.raises(ConfigError, match="needs a patch pool"):
        run(smooth, batch)
    for shape in ((8, 8, 3), (4, 4, 1)):
        with pytest.raises(DataError, match="build another pool"):
            run(smooth, make_batch(pool=make_pool(shape=shape)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("block_size", 0), ("num_fields", 0), ("num_nodes", 0), ("outcome", "dice")],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(ConfigError, match=f"ate_gradient.{field} is {value!r}"):
        dataclasses.replace(SMALL, **{field: value}).validate()
    SMALL.validate()
