"""The gradient form of the ATE: exact where it should be, and what no result depends on."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.ate.gradient import AteGradient
from jaxseg_xai.explainers.runner import explain_example
from jaxseg_xai.ops.blocks import replace_block
from jaxseg_xai.ops.patches import draw_patches
from jaxseg_xai.outcomes import get_outcome
from tests.explainers import ate_inputs, models
from tests.explainers.ate_inputs import HEIGHT, WIDTH, make_pool, make_problem

ROWS, COLUMNS = 3, 5
SMALL = AteGradient(num_fields=3)


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


SMOOTH = make_problem(smooth)


def make_batch(count=1, images=None, first_id=1):
    if images is None:
        rngs = [np.random.default_rng(seed) for seed in range(count)]
        images = np.stack([rng.random((HEIGHT, WIDTH, 1)).astype(np.float32) for rng in rngs])
    return ate_inputs.make_batch(images, first_id=first_id)


def run(problem, batch, explainer=SMALL, devices=None):
    return ate_inputs.run(problem, batch, explainer, devices or jax.devices()[:1])


def example(batch, i=0):
    return batch.images[i], jax.tree.map(lambda leaf: leaf[i], batch.targets)


def patches_of(problem, batch, explainer, i=0):
    """Patches [fields, blocks, b, b, C] that the explainer draws."""
    folded = jax.random.fold_in(problem.key, batch.targets.class_index[i])
    found = draw_patches(
        folded, batch.image_ids[i], problem.pool, ROWS * COLUMNS, explainer.num_fields
    )
    return problem.pool.patches[np.asarray(found).T]


def value_of(problem, name, target):
    """The outcome of an image, as a function."""
    output, outcome = problem.segmenter.output, get_outcome(name)
    return lambda x: outcome.value(
        output, problem.segmenter.logits(problem.variables, x[None])[0], target
    )


def blocks_outside():
    return [k for k in range(ROWS * COLUMNS) if k != COLUMNS + 1]


def per_block(attribution):
    """One pixel of every block."""
    return np.asarray(attribution)[::8, ::8].ravel()


@pytest.mark.parametrize("num_nodes", [1, 3])
def test_a_linear_outcome_gives_the_exact_effect_of_replacing_each_block_alone(num_nodes):
    batch = make_batch()
    explainer = dataclasses.replace(SMALL, num_nodes=num_nodes, outcome="mean_probability")
    problem = make_problem(linear_probability, variables=jnp.float32(20.0))
    explained = run(problem, batch, explainer)
    image, target = example(batch)
    outcome = value_of(problem, "mean_probability", target)

    @jax.jit
    def effect(patch, block):
        return outcome(replace_block(image, patch, block)) - outcome(image)

    expected, patches = np.zeros(ROWS * COLUMNS), patches_of(problem, batch, explainer)
    for block in blocks_outside():
        expected[block] = np.mean([effect(patch, block) for patch in patches[:, block]])
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(per_block(explained.attribution[0]), expected, atol=2e-4)
    assert explained.scores["completeness_gap"][0] < 1e-3
    assert explained.scores["field_effect"][0] == pytest.approx(expected.sum(), abs=1e-3)


def test_the_first_order_effect_is_the_finite_difference():
    batch, step = make_batch(), 1e-2
    explained = run(SMOOTH, batch)
    image, target = example(batch)
    outcome = value_of(SMOOTH, "soft_dice", target)

    @jax.jit
    def slope(patch, block):
        change = step * (replace_block(image, patch, block) - image)
        return (outcome(image + change) - outcome(image - change)) / (2 * step)

    for block in (1, 5, 14):
        slopes = [slope(patch, block) for patch in patches_of(SMOOTH, batch, SMALL)[:, block]]
        found = per_block(explained.attribution[0])[block]
        assert found == pytest.approx(np.mean(slopes), abs=2e-3)


def test_the_completeness_gap_vanishes_with_more_nodes():
    batch = make_batch()
    gaps = [
        float(
            run(SMOOTH, batch, dataclasses.replace(SMALL, num_nodes=n)).scores["completeness_gap"][
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
    explained = run(SMOOTH, make_batch(), dataclasses.replace(SMALL, num_nodes=8))
    total = per_block(explained.attribution[0]).sum()
    assert total == pytest.approx(float(explained.scores["field_effect"][0]), abs=1e-3)


def test_blocks_that_touch_the_region_have_no_effect():
    explained = run(SMOOTH, make_batch())
    assert not np.asarray(explained.attribution)[0, 8:16, 8:16].any()
    assert np.asarray(explained.attribution)[0, :8, 8:16].all()
    batch = make_batch()
    batch.targets.region[:, 16, 8] = True  # one pixel of the block below
    explained = run(SMOOTH, batch)
    assert not np.asarray(explained.attribution)[0, 8:20, 8:16].any()


def test_blocks_that_cannot_be_seen_have_no_effect_and_helpful_ones_are_negative():
    image = np.full((1, HEIGHT, WIDTH, 1), 0.9, np.float32)
    pool = make_pool()
    pool.patches[:] = 0.1
    explained = run(make_problem(smooth, pool), make_batch(images=image))
    effects = per_block(explained.attribution[0])
    assert not effects[[4, 9, 14]].any()  # further than 7 pixels from the region
    assert effects[[1, 5]].max() < 0


@pytest.mark.slow
def test_the_same_alone_and_on_any_number_of_devices():
    batch = make_batch(4)
    together = run(SMOOTH, batch, devices=jax.devices())
    assert len(together.attribution.sharding.device_set) == 4
    chex.assert_trees_all_close(together, run(SMOOTH, batch), atol=1e-5)
    for i in (0, 3):
        alone = run(SMOOTH, make_batch(images=batch.images[i : i + 1], first_id=1 + i))
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], together), alone, atol=1e-5
        )


def test_jit_equals_eager():
    batch = make_batch()
    image, target = example(batch)
    explainer = dataclasses.replace(SMALL, num_nodes=2)
    eager = explain_example(explainer, SMOOTH, image, target, batch.image_ids[0])
    jitted = jax.tree.map(lambda leaf: leaf[0], run(SMOOTH, batch, explainer))
    chex.assert_trees_all_close(eager, jitted, atol=1e-4)


def test_the_standard_error_is_that_of_the_mean_over_fields():
    batch = make_batch()
    one = [dataclasses.replace(SMALL, num_fields=n) for n in (1, 2)]
    first, both = (run(SMOOTH, batch, explainer) for explainer in one)
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
    explained = run(SMOOTH, batch)
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
    broken = make_problem(models.broken)
    assert run(broken, make_batch()).status.tolist() == [Status.NON_FINITE]
    overflowing = make_problem(models.overflowing, make_pool(value=1e30))
    assert run(overflowing, make_batch()).status.tolist() == [Status.NON_FINITE]
    batch = make_batch(images=np.zeros((1, HEIGHT, WIDTH, 1), np.float32))
    batch.targets.reference[:] = True
    assert run(make_problem(steep_at_zero), batch).status.tolist() == [Status.NON_FINITE]


def test_a_missing_or_unsuitable_pool_is_refused():
    with pytest.raises(ConfigError, match="needs patches of other images"):
        run(make_problem(smooth, None), make_batch())
    for shape in ((8, 8, 3), (4, 4, 1)):
        with pytest.raises(ConfigError, match="the pool's patches are"):
            run(make_problem(smooth, make_pool(shape=shape)), make_batch())


@pytest.mark.parametrize(
    ("field", "value"),
    [("block_size", 0), ("num_fields", 0), ("num_nodes", 0), ("outcome", "dice")],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(ConfigError, match=f"ate_gradient.{field} is {value!r}"):
        run(SMOOTH, make_batch(), dataclasses.replace(SMALL, **{field: value}))


def test_an_image_whose_blocks_all_touch_the_region_has_no_map():
    batch = make_batch(2)
    batch.targets.region[1] = True
    found = run(SMOOTH, batch)
    assert found.status.tolist() == [Status.OK, Status.NO_BLOCKS]
    assert not found.attribution[1].any()
