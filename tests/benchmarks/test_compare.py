import dataclasses

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.harness.compare import compare
from benchmarks.harness.record import Timing, write_records
from jaxseg_xai.core.errors import ConfigError
from tests.benchmarks import made_up

STEADY = (10.0, 10.1, 9.9, 10.05, 9.95)


def test_a_slow_down_beyond_the_noise_is_flagged():
    [change] = compare(
        [made_up.timed(*STEADY)], [made_up.timed(*(1.3 * s for s in STEADY))]
    ).changes
    assert change.slower
    assert change.change == pytest.approx(0.3)


@pytest.mark.parametrize(("faster", "agrees"), [(0.5, False), (1.0, True)])
def test_the_same_and_faster_are_not(faster, agrees):
    after = made_up.timed(*(faster * s for s in STEADY))
    found = compare([made_up.timed(*STEADY)], [after])
    assert found.passed
    assert f"{agrees:d} of 1 medians agree" in found.text()


def test_ratios_to_the_peers_are_compared_and_do_not_decide():
    before = made_up.record()
    quick_peer = before.ratios | {"original": before.ratios["original"] / 2}
    found = compare([before], [made_up.record(ratios=quick_peer)])
    seconds, original, tuned = found.changes
    assert (original.peer, tuned.peer) == ("original", "tuned")
    assert original.change == pytest.approx(-0.5)
    assert [seconds.agrees, original.agrees, tuned.agrees] == [True, False, True]
    assert found.passed
    assert "1 of 2 ratios agree" in found.text()


@pytest.mark.parametrize("repetitions", [2, 3, 5])
def test_false_alarms_are_as_rare_as_the_comment_says(repetitions):
    rng = np.random.default_rng(0)
    runs = 10 + rng.normal(0, 1, (600, 2, repetitions))
    flagged = [not compare([made_up.timed(*a)], [made_up.timed(*b)]).passed for a, b in runs]
    assert np.mean(flagged) < 0.01


def test_what_the_peers_or_the_machine_changed_by_is_no_news():
    """PyTorch's code did not change: its seconds, and the GEMM peak, tell how the machine did."""

    def all_slower(by, **changes):
        timings = made_up.record().timings
        slower = {who: Timing.of([by * s for s in t.seconds]) for who, t in timings.items()}
        return made_up.record(timings=slower, **changes)

    assert compare([made_up.record()], [all_slower(1.2)]).passed
    ours = {"ours": all_slower(1.2).timings["ours"]}
    alone = made_up.record(timings=made_up.record().timings | ours)
    assert not compare([made_up.record()], [alone]).passed
    other = made_up.record().versions | {"torch": "3.0"}
    assert not compare([made_up.record()], [all_slower(1.2, versions=other)]).passed
    weak = dataclasses.replace(made_up.MACHINE, gemm_flops={"float32": 2.1e11})
    before, after = made_up.timed(*STEADY), made_up.timed(*(1.2 * s for s in STEADY), machine=weak)
    assert compare([before], [after]).passed


def test_one_repetition_cannot_be_judged():
    found = compare([made_up.timed(1.0)], [made_up.timed(3.0)])
    assert found.passed
    assert "one repetition knows no noise" in found.text()


def test_nothing_in_common_is_refused():
    with pytest.raises(ConfigError, match="no case with the same settings"):
        compare([made_up.timed(*STEADY)], [])


def test_a_noisy_case_is_allowed_what_it_measured():
    noisy = (10.0, 14.0, 8.0, 12.0, 9.0)
    assert compare([made_up.timed(*noisy)], [made_up.timed(*(1.3 * s for s in noisy))]).passed


def test_a_result_that_has_become_wrong_is_flagged():
    wrong = dataclasses.replace(made_up.VALID, passed=False)
    found = compare([made_up.record()], [made_up.record(validation=wrong)])
    assert not found.passed
    assert "VALIDATION FAILS" in found.text()


def test_other_settings_are_not_compared_and_peers_do_not_matter():
    larger = made_up.record(settings=made_up.SETTINGS | {"size": 512})
    both = made_up.scaling()
    found = compare([made_up.record(), both], [larger, both])
    assert [change.case for change in found.changes] == [both.case]
    assert "only in the first file" in found.text()
    assert "only in the second file" in found.text()
    alone = made_up.record(settings=made_up.SETTINGS | {"peer": "none", "repetitions": 9})
    assert compare([made_up.record()], [alone]).passed


def test_other_machines_and_drifting_ones_are_pointed_out():
    gpu = dataclasses.replace(made_up.MACHINE, device_kind="NVIDIA H100", num_devices=1)
    text = compare([made_up.record()], [made_up.record(machine=gpu)]).text()
    assert "warning: ate: different machines, device_kind cpu and NVIDIA H100" in text
    slow = dataclasses.replace(made_up.MACHINE, gemm_flops={"float32": 1.35e11})
    text = compare([made_up.record()], [made_up.record(machine=slow)]).text()
    assert "the machine's own GEMM peak (float32) changed by -50%" in text


def test_the_exit_code_tells(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    write_records(tmp_path / "a.json", [made_up.timed(*STEADY), made_up.scaling()])
    write_records(tmp_path / "b.json", [made_up.timed(*(2 * s for s in STEADY)), made_up.scaling()])
    assert main(["compare", paths[0], paths[0]]) == 0
    assert main(["compare", *paths]) == 1
    assert "SLOWER" in capsys.readouterr().out
    assert main(["compare", paths[0], str(tmp_path / "none.json")]) == 2
