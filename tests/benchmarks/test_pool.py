import dataclasses

import pytest

from benchmarks.compare import compare
from benchmarks.pool import pool
from benchmarks.record import Timing
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
    # All that follows from the medians follows from the pooled ones.
    assert found.ratios["tuned"] == pytest.approx(found.timings["tuned"].median / ours.median)
    assert found.throughput["interventions"] == pytest.approx(30000 / ours.median)
    assert found.share_of_peak == pytest.approx(1e12 / ours.median / 2.2e11)


def test_a_peer_that_did_a_part_is_scaled_as_before():
    sample = made_up.record().peer_sample["original"]
    sample = {"original": dataclasses.replace(sample, scale=4.0)}
    record = made_up.record(peer_sample=sample)
    [found] = pool([record, record])
    expected = 4 * record.timings["original"].median / record.timings["ours"].median
    assert found.ratios["original"] == pytest.approx(expected)


def test_one_wrong_run_makes_all_wrong():
    wrong = dataclasses.replace(made_up.VALID, passed=False)
    [found] = pool([made_up.record(validation=wrong), made_up.record()])
    assert not found.validation.passed


@pytest.mark.parametrize(
    "other",
    [
        {"commit": "1" * 40},
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
