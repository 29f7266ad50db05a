"""The ATE against the frozen references: what validation lets through, and what it does not."""

import numpy as np
import pytest

from benchmarks.agree.ate import compare_one
from benchmarks.agree.frozen import load
from benchmarks.agree.kind import Subject
from benchmarks.arrays import Inputs, some
from benchmarks.peers.pdcr import tuned
from benchmarks.peers.unet import tuned_copy
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.ops.replacements import Draws
from tests.benchmarks.agreed import frozen, model, on_the_edge, subject_of, verdict
from tests.benchmarks.threads import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def few_rows(ate):
    """Blocks of the first rows that have an effect: each wrong one is looked into for long."""
    rows = np.zeros(ate.shape, bool)
    rows[np.flatnonzero(ate.any(1))[:2]] = True
    return rows


@pytest.mark.slow
def test_our_ate_passes_and_wrong_ones_fail():
    ours, found, subject = frozen("ate")
    right, expected = ours.arrays(found), load("ate").result
    assert verdict("ate").max_abs_diff < 1e-4
    for i, changes in enumerate(
        [[lambda ate: -ate, lambda ate: np.roll(ate, 1, axis=0)], [lambda ate: np.roll(ate, 1, 1)]]
    ):
        one = subject.some(slice(i, i + 1))
        mine, other = some(right, i), some(expected, i)
        ate, rows = mine["ate"], few_rows(mine["ate"])
        for change in changes:
            wrong = compare_one(mine | {"ate": np.where(rows, change(ate), ate)}, other, one)
            assert not wrong.passed
            assert not all(flip["excused"] for flip in wrong.flips)
        broken = np.where(rows & (ate != 0), np.nan, ate)
        assert not compare_one(mine | {"ate": broken}, other, one).passed
        shifted = compare_one(mine | {"base_dice": mine["base_dice"] + 0.5}, other, one)
        assert (shifted.passed, shifted.unit) == (False, "base Dice, difference")


@pytest.mark.parametrize("reused", ["one patch", "the screening's patches", "a neighbour's"])
def test_ate_with_reused_patches_fails(reused):
    subject, settings = subject_of(load("ate")).some(slice(1, 2)), load("ate").explainer
    expected = some(load("ate").result, 1)
    rows, draws = few_rows(expected["ate"]), subject.inputs.draws
    full = {
        "one patch": np.repeat(draws.full[..., :1], draws.full.shape[-1], axis=-1),
        "the screening's patches": np.resize(draws.screen, (1, 64, 10)),
        "a neighbour's": np.roll(draws.full, 1, axis=1),
    }

    def compare(full):
        inputs = subject.inputs.replace(draws=draws._replace(full=full), blocks=rows[None])
        found = tuned(tuned_copy(model()), inputs, settings)
        few = expected | {"ate": np.where(rows, expected["ate"], 0)}
        return compare_one(some(found, 0), few, subject)

    assert compare(draws.full).passed
    assert not compare(full[reused]).passed


@pytest.mark.parametrize(("z", "passed"), [(1e-6, True), (1e-3, False)])
def test_a_flip_is_excused_only_within_the_margin(z, passed):
    image = np.full((1, 4, 4, 1), -1.0, np.float32)
    image[:, :2, :2] = 1
    inside = image[..., 0] > 0
    targets = SegmentTarget(class_index=np.ones(1, np.int32), region=inside, reference=inside)
    nothing, one = np.zeros((1, 4, 0), np.int32), np.zeros((1, 4, 1), np.int32)
    draws = Draws(np.zeros((1, 2, 2, 1), np.float32), nothing, one)
    subject = Subject(
        logits=on_the_edge(z),
        inputs=Inputs(images=image, targets=targets, draws=draws),
        explainer=Ate(block_size=2, num_screen=0, num_patches=1),
    )
    expected = {"ate": np.zeros((2, 2)), "base_dice": 100.0, "num_interventions": 3}
    found = expected | {"ate": np.array([[0, 40.0], [0, 0]])}
    flipped = compare_one(found, expected, subject)
    assert flipped.passed is passed
    assert len(flipped.flips) == 1
    # More than the doubtful pixel can do, whatever the margin.
    beyond = expected | {"ate": np.array([[0, 90.0], [0, 0]])}
    assert not compare_one(beyond, expected, subject).passed
