"""The set for an accelerator: what becomes of a step that ends, hangs, fails or never starts."""

import json
import textwrap

import pytest

from benchmarks.harness import accelerator
from benchmarks.harness.accelerator import SUITE, Step, run_set, show
from benchmarks.harness.case_process import CaseProcess
from benchmarks.harness.record import write_records
from benchmarks.harness.timing import phase_of
from benchmarks.methods import CASES
from jaxseg_xai.core.errors import ConfigError
from tests.benchmarks import made_up

#: Stands for `benchmarks`: does what its first argument says, and copies a record to `--json`.
_PROGRAM = """
    import os, shutil, sys, time
    what = sys.argv[2]
    print("phase: timing", file=sys.stderr)
    if what == "hangs":
        time.sleep(60)
    if what == "breaks":
        sys.exit("out of memory")
    if what == "asks":
        sys.exit(os.environ["WISH"])
    shutil.copy("record.json", sys.argv[sys.argv.index("--json") + 1])
    sys.exit(what == "wrong")
"""


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """A set of five made-up steps, run by a made-up program in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(accelerator, "_LEAST", 0.5)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__main__.py").write_text(textwrap.dedent(_PROGRAM))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    write_records(tmp_path / "record.json", [made_up.record()])
    commands = {n: n for n in ("good", "hangs", "breaks", "wrong", "late")}
    commands["asks"] = "WISH=a=b asks"
    limits = {"hangs": 1.5}
    made = tuple(Step(name=n, command=c, limit=limits.get(n, 10.0)) for n, c in commands.items())
    monkeypatch.setattr(accelerator, "STEPS", made)
    return tmp_path / "out"


def test_every_step_says_what_became_of_it(steps):
    found = {step.name: step for step in run_set(steps, 60.0, names(steps, "late"))}
    outcomes = {name: step.outcome for name, step in found.items()}
    assert outcomes == {
        "good": "valid",
        "hangs": "timed out",
        "breaks": "failed",
        "wrong": "not valid",
        "late": "not started",
        "asks": "failed",
    }
    assert found["asks"].why == "a=b"
    assert found["hangs"].phase == "timing"
    assert found["breaks"].why == "out of memory"
    assert len(json.loads((steps / "records.json").read_text())) == 2
    assert [path.name for path in show(steps, list(found.values()))] == ["table.md", "picture.png"]
    table = (steps / "table.md").read_text()
    assert "timed out in phase 'timing'" in table
    assert "not started" in table


def test_the_next_call_goes_on(steps):
    run_set(steps, 60.0, ("good",))
    (steps / "logs" / "good.log").write_text("of the first call")
    found = run_set(steps, 60.0, ("good", "late"))
    assert [step.outcome for step in found if step.name in ("good", "late")] == ["valid", "valid"]
    assert (steps / "logs" / "good.log").read_text() == "of the first call"


def test_a_step_that_ends_in_the_end_is_no_longer_where_it_was(steps):
    run_set(steps, 60.0, ("good",))
    state = json.loads((steps / "set.json").read_text())
    state["steps"][0] |= {"outcome": "timed out", "phase": "compiling", "why": "somewhere"}
    (steps / "set.json").write_text(json.dumps(state))
    good = run_set(steps, 60.0, ("good",))[0]
    assert (good.outcome, good.phase, good.why) == ("valid", "", "")


def test_steps_run_side_by_side_where_the_host_has_the_cores(steps, monkeypatch):
    monkeypatch.setattr(accelerator, "cpu_cores", lambda: 7)  # enough for two steps
    found = {step.name: step for step in run_set(steps, 60.0, ("hangs", "good"))}
    assert (found["hangs"].outcome, found["good"].outcome) == ("timed out", "valid")
    ended = {name: (steps / "logs" / f"{name}.log").stat().st_mtime for name in ("hangs", "good")}
    assert ended["good"] < ended["hangs"]


def test_an_interrupted_set_leaves_no_process(steps, monkeypatch):
    started, answers = [], [3]

    def cores():  # asked before each start
        if not answers:
            raise KeyboardInterrupt
        return answers.pop()

    def start(*arguments):
        started.append(CaseProcess(*arguments))
        return started[0]

    monkeypatch.setattr(accelerator, "CaseProcess", start)
    monkeypatch.setattr(accelerator, "cpu_cores", cores)
    with pytest.raises(KeyboardInterrupt):
        run_set(steps, 60.0, ("hangs", "good"))
    [process] = started
    assert process.ended


def test_what_does_not_fit_into_the_budget_is_not_started(steps):
    found = run_set(steps, 1.7, ("hangs", "late"))
    assert [s.outcome for s in found if s.name in ("hangs", "late")] == ["timed out", "not started"]


def test_bad_input_is_named(steps):
    with pytest.raises(ConfigError, match=r"unknown step bad; there is good"):
        run_set(steps, 60.0, ("bad",))
    with pytest.raises(ConfigError, match=r"--budget is 0.1 s; the first case needs"):
        run_set(steps, 0.1)
    steps.mkdir()
    (steps / "set.json").write_text(json.dumps({"suite": SUITE + 1, "steps": []}))
    with pytest.raises(ConfigError, match=rf"holds suite {SUITE + 1}"):
        run_set(steps, 60.0)


def test_nothing_ended_nothing_shown(steps):
    assert show(steps, list(accelerator.STEPS)) == []


def test_the_set_has_every_case():
    commands = [step.command.split() for step in accelerator.STEPS]
    assert {next(w for w in words if "=" not in w) for words in commands} == set(CASES)
    assert len({step.name for step in accelerator.STEPS}) == len(accelerator.STEPS)


def test_the_last_phase_counts():
    assert phase_of("10:00:00 phase: compiling\nnoise\n10:00:01 phase: timing\n") == "timing"
    assert phase_of("noise") == "starting"


def names(out, *left_out):
    """All of the made-up steps but these."""
    return tuple(step.name for step in accelerator.STEPS if step.name not in left_out)
