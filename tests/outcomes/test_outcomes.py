import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes.points import (
    OUTCOMES,
    hard_dice_points,
    mean_probability_points,
    soft_dice_points,
)

LOGITS = jnp.array([[[0.0, 1.0], [0.0, -1.0], [0.0, 2.0]]])
TARGET = SegmentTarget(
    class_index=jnp.int32(1),
    region=jnp.array([[True, True, False]]),
    reference=jnp.array([[True, True, True]]),
)
NOTHING = dataclasses.replace(TARGET, reference=jnp.zeros((1, 3), bool))


def test_hard_dice_is_the_published_one():
    assert hard_dice_points(LOGITS, TARGET) == pytest.approx(100 * 2 / 3)
    assert hard_dice_points(LOGITS.at[..., 1].set(9.0), NOTHING) == 0
    assert hard_dice_points(-jnp.abs(LOGITS), NOTHING) == 0


def test_soft_dice_by_hand():
    p = 1 / (1 + np.exp([-1.0, 1.0]))
    assert soft_dice_points(LOGITS, TARGET) == pytest.approx(100 * 2 * p.sum() / (p.sum() + 2))
    assert soft_dice_points(LOGITS, NOTHING) == 0


def test_soft_dice_of_a_certain_model_is_hard_dice():
    assert soft_dice_points(100 * LOGITS, TARGET) == pytest.approx(100 * 2 / 3, abs=1e-4)


def test_mean_probability_by_hand():
    p = 1 / (1 + np.exp([-1.0, 1.0]))
    assert mean_probability_points(LOGITS, TARGET) == pytest.approx(100 * p.mean())
    assert mean_probability_points(LOGITS, NOTHING) == 0


@pytest.mark.parametrize("name", OUTCOMES)
def test_only_logits_in_the_region_must_be_finite(name):
    outcome = OUTCOMES[name]
    outside = LOGITS.at[0, 2, 1].set(jnp.inf)
    assert outcome(outside, TARGET) == outcome(LOGITS, TARGET)
    assert np.isnan(outcome(LOGITS.at[0, 1, 0].set(jnp.inf), TARGET))
    gradient = jax.grad(lambda logits: outcome(logits, TARGET))(outside)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", OUTCOMES)
def test_float32_alone_and_in_a_batch(name):
    logits = jnp.stack([LOGITS, 2 * LOGITS]).astype(jnp.bfloat16)
    targets = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), TARGET)
    found = jax.vmap(OUTCOMES[name])(logits.astype(jnp.float32), targets)
    assert found.dtype == jnp.float32
    assert found[0] == pytest.approx(float(OUTCOMES[name](LOGITS, TARGET)), abs=1e-4)
