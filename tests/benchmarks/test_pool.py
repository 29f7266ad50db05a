import dataclasses

import pytest

from benchmarks.harness.compare import compare
from benchmarks.harness.pool import pool
from benchmarks.harness.record import Timing
from tests.benchmarks import made_up


def test_runs_of_the_same_work_are_one():
    first = made_up.record()
    slow = {who: Timing.of([2 * s for s in t.seconds]) for who, t in first.timings.items()}
    machine = dataclasses.replace(made_up.MACHINE, gemm_flops={"float32": 1.7e11})
    second = made_up.record(timings=slow, machine=machine, compile_seconds=14.5)
    [found] = pool([first, second])
    ours = found.timings["ours"]
    assert sorted(ours.seconds) == sorted(first.timings["ours"].seconds + slow["ours"].seconds)
    assert ours.spread > 10 * first.timings["ours"].spread
    assert found.machine.gemm_flops["float32"] == pytest.approx(2.2e11)
    assert found.compile_seconds == 13.5
    assert found.throughput["interventions"] == pytest.approx(30000 / ours.median)
    assert found.share_of_peak == pytest.approx(1e12 / ours.median / 2.2e11)


def test_drift_that_all_share_leaves_the_ratios_alone():
    """The spread of a ratio is that within a run where all runs have the same ratio."""
    runs = [made_up.record(), made_up.record(ratios={"original": 30.5, "tuned": 14.1})]
    [found] = pool(runs)
    assert found.ratios == {"original": 30.5, "tuned": pytest.approx(13.1)}
    assert found.ratio_spread("original") == pytest.approx(runs[0].ratio_spread("original"))
    assert found.ratio_spread("tuned") > 0.5


def test_one_wrong_run_makes_all_wrong():
    wrong = dataclasses.replace(made_up.VALID, passed=False)
    [found] = pool([made_up.record(validation=wrong), made_up.record()])
    assert not found.validation.passed


@pytest.mark.parametrize(
    "other",
    [
        {"commit": "1" * 40},
        {"dirty": True},
        {"versions": {"python": "3.12"}},
        {"settings": made_up.SETTINGS | {"size": 512}},
        {"settings": made_up.SETTINGS | {"peer": "none"}},
        {"machine": dataclasses.replace(made_up.MACHINE, device_kind="NVIDIA H100")},
        {"case": "ate-512"},
    ],
)
def test_other_work_code_and_machines_stay_apart(other):
    records = [made_up.record(), made_up.record(**other)]
    assert pool(records) == records


def test_drift_between_runs_is_noise_to_compare():
    steady = (10.0, 10.1, 9.9, 10.05, 9.95)
    before, after = (made_up.timed(*(f * s for s in steady)) for f in (1.0, 1.12))
    assert not compare([before], [after]).passed
    drifting = [made_up.timed(*(f * s for s in steady)) for f in (1.0, 1.1)]
    assert compare(drifting, [after]).passed
    assert not compare(drifting, [made_up.timed(*(2 * s for s in steady))]).passed


def test_what_cannot_be_pooled_is_told_and_the_last_counts():
    late = made_up.timed(20.0, 20.0, 20.0, 20.0, 20.0, commit="1" * 40, date="2026-02-01T00:00:00")
    early = made_up.timed(10.0, 10.0, 10.0, 10.0, 10.0)
    found = compare([late, early], [late])
    assert found.changes[0].before == 20.0
    assert "the run of 2026-01-01T00:00:00+00:00 is left out" in found.text()


def test_two_unfinished_states_of_a_commit_are_not_pooled():
    runs = [made_up.record(dirty=True, date=f"2026-01-0{day}") for day in (1, 2)]
    assert pool(runs) == runs
