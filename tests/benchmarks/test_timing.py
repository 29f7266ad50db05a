"""How often contenders run, on a clock that only they move."""

import types

import pytest

from benchmarks.harness import timing
from benchmarks.harness.timing import Pace, interleave


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=0.0, log=[])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now.seconds)
    monkeypatch.setattr(timing.time, "sleep", lambda _: now.log.append("pause"))
    return now


def _work(clock, name, *seconds):
    """Takes these seconds, one after the other, and then always the last."""
    left = list(seconds)

    def run():
        clock.seconds += left.pop(0) if len(left) > 1 else left[0]
        clock.log.append(name)
        return len(clock.log)

    return run


def test_contenders_take_turns_after_one_untimed_call(clock):
    contenders = {"ours": _work(clock, "a", 100, 4, 5, 6), "tuned": _work(clock, "b", 2)}
    timings, results = interleave(contenders, Pace(repetitions=3))
    assert clock.log == ["a", "b", *["pause", "a", "pause", "b"] * 3]
    assert timings["ours"].seconds == (4, 5, 6)
    assert results == {"ours": 1, "tuned": 2}


def test_short_work_fills_its_time_and_counts_with_its_mean(clock):
    short = _work(clock, "a", 9, 0.25, 0.5, 0.25, 0.5, 0.75, 0.5)
    timings, _ = interleave({"ours": short}, Pace(repetitions=2, short_seconds=1))
    assert timings["ours"].seconds == pytest.approx([1 / 3, 1.25 / 2])


def test_only_slow_contenders_run_less_often(clock):
    contenders = {name: _work(clock, name, 30) for name in ("ours", "tuned")}
    contenders |= {"quick": _work(clock, "quick", 12), "tuned, too slow": _work(clock, "b", 500)}
    timings, _ = interleave(contenders, Pace(repetitions=7, slow_seconds=120))
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {
        "ours": 7,
        "tuned": 4,
        "quick": 7,
        "tuned, too slow": 3,
    }


def test_joules_are_those_of_a_call_where_the_meter_had_time(clock, monkeypatch):
    def run():
        clock.seconds += 0.5

    monkeypatch.setattr(timing, "joules", lambda: 300 * clock.seconds)  # 300 W
    one, two = (
        interleave({"ours": run}, Pace(repetitions=1, short_seconds=seconds))[0]["ours"]
        for seconds in (0.5, 1.0)
    )
    assert one.joules is None
    assert two.joules == pytest.approx(150)


def test_without_a_meter_there_are_no_joules(clock):
    timings, _ = interleave({"ours": _work(clock, "a", 9)}, Pace(repetitions=1))
    assert timings["ours"].joules is None
