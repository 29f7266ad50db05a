"""Values of outcomes by hand, at their edges."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.segmenter import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes import get_outcome

OUTPUT = OutputSpec(class_names=("background", "object"))
LOGITS = jnp.array([[[0.0, 1.0], [0.0, -1.0], [0.0, 2.0]]])
TARGET = SegmentTarget(
    class_index=jnp.int32(1),
    region=jnp.array([[True, True, False]]),
    reference=jnp.array([[True, True, True]]),
)
NOTHING = dataclasses.replace(TARGET, reference=jnp.zeros((1, 3), bool))


def value(name, logits, target=TARGET):
    return get_outcome(name).value(OUTPUT, logits, target)


def test_hard_dice_is_the_published_one():
    assert value("dice", LOGITS) == pytest.approx(100 * 2 / 3)
    assert value("dice", LOGITS.at[..., 1].set(9.0), NOTHING) == 0
    assert value("dice", -jnp.abs(LOGITS), NOTHING) == 0


def test_soft_dice_by_hand():
    p = 1 / (1 + np.exp([-1.0, 1.0]))
    assert value("soft_dice", LOGITS) == pytest.approx(100 * 2 * p.sum() / (p.sum() + 2))
    assert value("soft_dice", LOGITS, NOTHING) == 0


def test_soft_dice_of_a_certain_model_is_hard_dice():
    assert value("soft_dice", 100 * LOGITS) == pytest.approx(100 * 2 / 3, abs=1e-4)


def test_mean_probability_by_hand():
    p = 1 / (1 + np.exp([-1.0, 1.0]))
    assert value("mean_probability", LOGITS) == pytest.approx(100 * p.mean())
    assert value("mean_probability", LOGITS, NOTHING) == 0


def test_summed_logits_by_hand():
    assert value("summed_logits", LOGITS.at[0, 0, 1].set(3.0)) == 2
    assert value("summed_logits", LOGITS, NOTHING) == 0
    gradient = jax.grad(lambda logits: value("summed_logits", logits))(LOGITS)
    np.testing.assert_array_equal(gradient[0], [[0, 1], [0, 1], [0, 0]])


def test_an_unknown_outcome_is_refused_and_the_others_are_listed():
    with pytest.raises(ConfigError, match=r"unknown outcome 'iou'; there is dice, soft_dice"):
        get_outcome("iou")
