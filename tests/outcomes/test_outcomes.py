"""What each outcome is by hand; what all of them keep is in `tests/contracts/test_outcomes.py`."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes import get_outcome

SOFTMAX = OutputSpec(class_names=("background", "object"))
SIGMOID = OutputSpec(class_names=("whole", "core"), activation="sigmoid")
THRESHOLD = OutputSpec(class_names=("whole", "core"), activation="threshold")
#: Three pixels, the last of them outside the region, as an image and as a volume.
LOGITS = {
    2: jnp.array([[[0.0, 1.0], [0.0, -1.0], [0.0, 2.0]]]),
    3: jnp.array([[[[0.0, 1.0], [0.0, -1.0], [0.0, 2.0]]]]),
}
RANKS = pytest.mark.parametrize("rank", [2, 3])


def target_of(rank, reference=True):
    shape = LOGITS[rank].shape[:-1]
    region = jnp.array([True, True, False]).reshape(shape)
    return SegmentTarget(
        class_index=jnp.int32(1), region=region, reference=jnp.full(shape, reference)
    )


def value(name, logits, target, output=SOFTMAX):
    return get_outcome(name).value(output, logits, target)


@RANKS
def test_hard_dice_is_the_published_one(rank):
    logits, nothing = LOGITS[rank], target_of(rank, reference=False)
    assert value("dice", logits, target_of(rank)) == pytest.approx(100 * 2 / 3)
    assert value("dice", logits.at[..., 1].set(9.0), nothing) == 0
    assert value("dice", -jnp.abs(logits), nothing) == 0


@RANKS
def test_soft_dice_by_hand(rank):
    p = 1 / (1 + np.exp([-1.0, 1.0]))
    found = value("soft_dice", LOGITS[rank], target_of(rank))
    assert found == pytest.approx(100 * 2 * p.sum() / (p.sum() + 2))
    assert value("soft_dice", LOGITS[rank], target_of(rank, reference=False)) == 0


@RANKS
def test_soft_dice_of_a_certain_model_is_hard_dice(rank):
    found = value("soft_dice", 100 * LOGITS[rank], target_of(rank))
    assert found == pytest.approx(100 * 2 / 3, abs=1e-4)


@RANKS
def test_mean_probability_by_hand(rank):
    p = 1 / (1 + np.exp([-1.0, 1.0]))
    found = value("mean_probability", LOGITS[rank], target_of(rank))
    assert found == pytest.approx(100 * p.mean())
    assert value("mean_probability", LOGITS[rank], target_of(rank, reference=False)) == 0


@RANKS
def test_summed_logits_by_hand(rank):
    logits = LOGITS[rank] + jnp.array([7.0, 3.0])
    assert value("summed_logits", logits, target_of(rank)) == pytest.approx(4 + 2)
    assert value("summed_logits", logits, target_of(rank, reference=False)) == 0


@RANKS
def test_true_and_false_positives_by_hand(rank):
    # In the region one pixel is segmented and one is not.
    for reference, expected in ((True, (50, 0)), (False, (0, 50))):
        target = target_of(rank, reference=reference)
        found = [value(f"{kind}_positives", LOGITS[rank], target) for kind in ("true", "false")]
        assert found == list(expected)


@RANKS
def test_classes_that_overlap_do_not_compete(rank):
    # Both classes in the first pixel, none in the second; the argmax would say otherwise.
    logits = LOGITS[rank].at[..., 0].set(jnp.array([5.0, -2.0, 0.0]))
    target, p = target_of(rank), 1 / (1 + np.exp([-1.0, 1.0]))
    assert value("dice", logits, target, SIGMOID) == pytest.approx(100 * 2 / 3)
    assert value("mean_probability", logits, target, SIGMOID) == pytest.approx(100 * p.mean())
    # Raw outputs 1 and -1: above 0.5 once, clipped to 1 and 0.
    assert value("dice", logits, target, THRESHOLD) == pytest.approx(100 * 2 / 3)
    assert value("soft_dice", logits, target, THRESHOLD) == pytest.approx(100 * 2 / 3)
    higher = dataclasses.replace(THRESHOLD, threshold=1.5)
    assert value("dice", logits, target, higher) == 0


def test_an_unknown_outcome_is_named():
    with pytest.raises(ConfigError, match="unknown outcome 'iou'; there is dice"):
        get_outcome("iou")
