"""MiSuRe against the frozen references: what validation lets through, and what it does not."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from benchmarks.agree.frozen import load
from benchmarks.agree.kind import check
from benchmarks.agree.misure import compare_stage_1, compare_stages
from benchmarks.agree.verdict import all_of
from benchmarks.arrays import some
from benchmarks.peers.misure import rounding
from benchmarks.peers.unet import tuned_copy
from tests.benchmarks.agreed import (
    MISURE,
    frozen,
    model,
    on_the_edge,
    subject_of,
    verdict,
)
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


WRONG = {
    "misure_paper": [
        {"l1_weight": 0.11},
        {"background_weight": 0.5},
        {"learning_rate": 0.011},
        {"weight_decay": 0.1},
        {"cut": 0.5},
        {"tau": 0.5},
        {"tv_weight": 0.1},
    ],
    "misure": [
        {"learning_rate": 0.051},
        {"multiplier_rate": 0.25},
        {"max_misses": 2},
        {"patience": 3},
        {"tau": 0.8},
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISURE)
def test_our_misure_passes_and_wrong_ones_fail(name):
    ours, found, subject = frozen(name)
    right_of = load(name).result
    right = all_of(check(ours, found, {"": right_of}, subject))
    assert right.passed
    assert not right.flips
    # The wrong ones on one image alone, which rounding leaves as it is.
    explainer, problem, batch = ours.arguments
    still = (right_of["stable"] == explainer.num_iterations) & (right_of["moved"] == 0)
    index = int(np.flatnonzero(still)[0])
    one, alone = slice(index, index + 1), dataclasses.replace(batch, valid=np.arange(3) == index)

    def passes(**changes):
        other = dataclasses.replace(explainer, **changes)
        found = ours.arrays(jax.device_get(ours.compiled(other, problem, alone)))
        return ours.kind.compare(some(found, one), some(right_of, one), subject.some(one)).passed

    assert passes()
    for changes in WRONG[name]:
        assert not passes(**changes), changes


@pytest.mark.slow
@pytest.mark.parametrize("name", MISURE)
def test_what_rounding_does_is_stored_with_the_reference(name):
    reference = load(name)
    found = rounding(tuned_copy(model()), reference.inputs, reference.explainer)
    np.testing.assert_array_equal(found["stable"], reference.result["stable"])
    whole = found["stable"] == reference.explainer.num_iterations
    np.testing.assert_array_equal(found["moved"][whole], reference.result["moved"][whole])


def stages(found, expected):
    return compare_stages(found, expected, subject_of(load("misure_paper")))


def test_only_what_rounding_leaves_alone_counts():
    expected = load("misure_paper").result | {"moved": np.zeros(3)}
    trace, mask = expected["trace"].copy(), expected["mask"].copy()
    trace[0, 20:] *= 1.1
    mask[0] = 0.5
    wrong = {k: v for k, v in expected.items() if k not in ("stable", "moved")}
    wrong |= {"trace": trace, "mask": mask}

    def passes(*stable):
        return stages(wrong, expected | {"stable": np.array(stable)}).passed

    assert not passes(40, 40, 40)
    assert passes(20, 40, 40)
    assert not passes(21, 40, 40)
    assert not passes(0, 0, 0)


@pytest.mark.parametrize(
    ("changed", "unit"),
    [(0.02, "share of mask off by > 0.01"), (0.5, "area of the mask, relative")],
)
def test_a_mask_that_rounding_decides_is_judged_by_loss_area_and_dice(changed, unit):
    """The verdict names the bound that broke, not one that is kept."""
    expected = load("misure_paper").result | {"stable": np.full(3, 40), "moved": np.zeros(3)}
    found = {k: v for k, v in expected.items() if k not in ("stable", "moved")}
    mask = expected["mask"].copy()
    inside = np.flatnonzero((mask[1] > 0.6) & (mask[1] < 0.9))[:40]
    assert len(inside) == 40  # one pixel in 300
    mask[1].ravel()[inside] += np.where(np.arange(40) % 2, 1, -1) * changed
    if changed > 0.1:
        mask[1] *= 0.9
    broken = stages(found | {"mask": mask}, expected)
    assert not broken.passed
    assert broken.max_abs_diff > broken.tolerance
    moved = stages(found | {"mask": mask}, expected | {"moved": np.array([0, 0.01, 0])})
    if changed < 0.1:
        assert broken.unit == unit
        assert moved.passed
        assert moved.measured["images whose mask was compared"] == 2
    else:
        assert (moved.passed, moved.unit) == (False, unit)
    dice = expected["dice_minimal"] + np.array([0, 0.01, 0])
    worse = stages(found | {"dice_minimal": dice}, expected)
    assert (worse.passed, worse.unit) == (False, "final Dice, difference")


def test_stage_1_flips_of_misure():
    reference = load("misure_paper")
    expected, subject = reference.result, subject_of(reference)
    right = {k: v for k, v in expected.items() if k not in ("stable", "moved")}
    segment = expected["segment"].copy()
    segment[0, 0, 0] ^= True
    wrong = right | {"segment": segment}
    found = compare_stages(wrong, expected, subject)
    assert (found.passed, found.unit) == (False, "flips without an excuse")
    assert found.flips[0]["where"] == "segment"
    assert found.flips[0]["nearest_to_half"] > subject.margin
    # A pixel on the threshold excuses that image; the others are still compared.
    near = dataclasses.replace(subject, logits=on_the_edge(1e-6))
    assert compare_stages(wrong, expected, near).passed
    assert not compare_stages(wrong | {"trace": expected["trace"] * 1.01}, expected, near).passed
    trace = expected["dice_trace"].copy()
    trace[1, 2] += 0.01
    found = compare_stages(right | {"dice_trace": trace}, expected, subject)
    assert not found.passed
    assert found.flips[0]["where"] == "Dice after 2 dilations"
    assert compare_stage_1(right, expected, subject).passed
    sufficient = expected["sufficient"].copy()
    sufficient[1, 0, 0] ^= True
    assert not compare_stage_1(right | {"sufficient": sufficient}, expected, subject).passed


@pytest.mark.parametrize("name", MISURE)
def test_few_bits_do_not_excuse_another_region(name):
    few = functools.partial(verdict, name, dtype="bfloat16")
    assert few().passed
    assert not few(mask=lambda mask: np.ones_like(mask)).passed
    assert not few(dice_minimal=lambda dice: dice * np.nan).passed


def test_one_value_of_a_mask_that_is_not_a_number_fails():
    def spoil(mask):
        mask = mask.copy()
        mask[0, 0, 0] = np.nan
        return mask

    expected = load("misure_paper").result
    found = {k: v for k, v in expected.items() if k not in ("stable", "moved")}
    assert not stages(found | {"mask": spoil(found["mask"])}, expected).passed
