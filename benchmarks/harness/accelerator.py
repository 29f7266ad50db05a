"""The set for a stranger's GPU or TPU: cases by worth, each in a process of its own, in a budget.

Several run side by side, as many as the host has cores for; while one is measured, the others stand
still. A case that hangs, crashes or fills the memory ends its own process only. After each the
state (set.json) and all records so far (records.json) are written, so that a machine that is taken
away leaves what was found. The same command goes on where it stopped.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.harness.case_process import CaseProcess
from benchmarks.harness.record import Record, read_records, write_records
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.parse import from_table
from jaxseg_xai.devices.mesh import cpu_cores

#: Goes up when the steps or their settings change: records of two suites are not compared.
SUITE = 5
Outcome = Literal["not started", "valid", "not valid", "timed out", "failed"]
#: Seconds left under which nothing is started: importing alone takes about ten.
_LEAST = 20.0
#: Seconds that a case may take: a minute is usual where nothing is compiled yet.
_LIMIT = 150.0
#: Cores of the host for each case that runs beside others.
_CORES_EACH = 3
#: Seconds between two looks at the processes.
_TICK = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One case with its options, and what became of it.

    Attributes:
      name: unique in the set; its files are called so.
      command: case and options for `run`, after the environment variables that it needs.
      limit: seconds that it may take, start and compiling included; what it stands still for
        others does not count.
      outcome: what became of it.
      seconds: that it took, counted likewise.
      phase: where it was when it did not end.
      why: the last line of its output, or the place in our code where it was.
    """

    name: str
    command: str
    limit: float = _LIMIT
    outcome: Outcome = "not started"
    seconds: float = 0.0
    phase: str = ""
    why: str = ""


#: By worth: what is compared with other hardware first, variants last. Name and command.
_TABLE = """
unet-forward                unet-forward --lanes 64 --peer compiled
ate                         ate --blocks 512 --peer compiled
misure                      misure --peer compiled
ate-512                     ate-512 --blocks 512 --peer tuned
components                  components --quick --peer tuned
misure-512                  misure-512 --quick --peer tuned
sweep                       sweep --quick
occlusion                   occlusion --peer tuned
rise                        rise --peer tuned
kernel-shap-region          kernel-shap-region --peer tuned
grad-cam                    grad-cam --peer tuned
integrated-gradients        integrated-gradients --peer tuned
confidence                  confidence --peer tuned
ate-3d                      ate-3d --peer tuned
misure-3d                   misure-3d --peer tuned
shap-3d                     shap-3d --quick --peer tuned
rise-region                 rise-region --peer tuned
kernel-shap                 kernel-shap --peer tuned
misure-quality              misure-quality --quick
ate-screen                  ate-screen --quick
scaling                     scaling --quick
misure-lanes                misure-lanes
ate-wide                    ate-wide --peer tuned
ate-regions                 ate-regions
ate-3d-drawn                ate-3d-drawn --blocks 20
windows                     windows --model segnet
sizes                       sizes --quick
sizes-ate                   sizes-ate --quick
sizes-maps                  sizes-maps --quick
sweep-64                    sweep-64 --quick
store                       store --quick
reading                       reading --quick
ate-tensorfloat32           ate --blocks 512 --dtype tensorfloat32 --peer tuned
misure-tensorfloat32        misure --dtype tensorfloat32 --peer tuned
misure-channels-first       XLA_FLAGS=--xla_gpu_force_conv_nchw=true misure --peer none
ate-channels-first          XLA_FLAGS=--xla_gpu_force_conv_nchw=true ate --blocks 512 --peer none
unet-forward-tensorfloat32  unet-forward --lanes 128 --dtype tensorfloat32 --peer compiled
unet-forward-bfloat16       unet-forward --lanes 128 --dtype bfloat16 --peer compiled
unet-forward-graphs         unet-forward --lanes 64 --peer graphs
misure-graphs               misure --peer graphs
ate-graphs                  ate --blocks 512 --peer graphs
unet-forward-autotuned      unet-forward --lanes 64 --peer autotuned
"""
STEPS = tuple(
    Step(name=name, command=command)
    for name, command in (line.split(maxsplit=1) for line in _TABLE.strip().splitlines())
)


def run_set(out: Path, budget: float, only: Sequence[str] = ()) -> list[Step]:
    """Run what has not ended yet, as far as the budget goes; returns all steps.

    Args:
      out: folder of the set; made if it is not there.
      budget: seconds from now.
      only: names of steps; all if empty.

    Raises:
      ConfigError: an unknown step, a budget too small for the first step, or a folder that holds
        another suite.
    """
    end = time.monotonic() + budget
    if unknown := set(only) - {step.name for step in STEPS}:
        names = ", ".join(step.name for step in STEPS)
        raise ConfigError(f"unknown step {', '.join(sorted(unknown))}; there is {names}")
    if budget < _LEAST:
        raise ConfigError(f"--budget is {budget:g} s; the first case needs at least {_LEAST:g} s")
    steps = _resumed(out)
    waiting = [
        place
        for place, step in enumerate(steps)
        if (not only or step.name in only) and step.outcome not in ("valid", "not valid")
    ]
    running: dict[int, CaseProcess] = {}
    with tempfile.TemporaryDirectory() as turns:
        try:
            while waiting or running:
                left = end - time.monotonic()
                if left < _LEAST:
                    waiting.clear()
                while waiting and len(running) < max(1, cpu_cores() // _CORES_EACH):
                    place = waiting.pop(0)
                    print(f"{steps[place].name}: run {steps[place].command}", flush=True)
                    running[place] = _start(steps[place], out, Path(turns))
                for place, process in list(running.items()):
                    if process.over(steps[place].limit if left > 0 else 0.0):
                        steps[place] = _ended(steps[place], running.pop(place), out)
                        print(f"  {steps[place].name}: {_told(steps[place])}", flush=True)
                        _write(out, steps)
                time.sleep(_TICK)
        finally:  # interrupted: none of them may stand still for ever
            for process in running.values():
                process.over(0.0)
    _write(out, steps)
    return steps


def show(out: Path, steps: Sequence[Step]) -> list[Path]:
    """Write table.md and picture.png of what is in the folder; returns them (none: no record)."""
    from benchmarks.harness.plots import pictures
    from benchmarks.harness.report import describe, render

    found = _records(out, steps)
    if not found:
        return []
    rows = {name: (record, describe(record)) for name, record in found.items()}
    table = render("set.md.j2", list(found.values()), steps=steps, found=rows, told=_told)
    (out / "table.md").write_text(table)
    written = [out / "table.md"]
    for png in list(pictures(list(found.values())).values())[:1]:
        (out / "picture.png").write_bytes(png)
        written.append(out / "picture.png")
    return written


def _resumed(out: Path) -> list[Step]:
    """The steps, with what an earlier call in this folder found."""
    file = out / "set.json"
    if not file.is_file():
        return list(STEPS)
    state = json.loads(file.read_text())
    if state["suite"] != SUITE:
        raise ConfigError(
            f"{out} holds suite {state['suite']}, this is {SUITE}; name another --out"
        )
    before = {found["name"]: from_table(Step, found) for found in state["steps"]}
    return [before.get(step.name, step) for step in STEPS]


def _start(step: Step, out: Path, turns: Path) -> CaseProcess:
    """A step in a process of its own."""
    _record_file(out, step).parent.mkdir(parents=True, exist_ok=True)
    words = step.command.split()
    variables = dict(word.split("=", 1) for word in words if word[0].isupper())
    options = [*words[len(variables) :], "--repetitions", "3"]
    if options[0] not in ("sweep", "scaling"):  # they use every device
        options += ["--devices", "1"]
    options += ["--machine", str(out / "machine.json"), "--json", str(_record_file(out, step))]
    log = out / "logs" / f"{step.name}.log"
    return CaseProcess(options, variables, log, turns, out / "programs")


def _ended(step: Step, process: CaseProcess, out: Path) -> Step:
    """What became of a step whose process is over."""
    done = dataclasses.replace(step, seconds=round(process.seconds, 1), phase="", why="")
    if process.code in (0, 1) and _record_file(out, step).is_file():
        return dataclasses.replace(done, outcome="valid" if process.code == 0 else "not valid")
    outcome = "timed out" if process.code is None else "failed"
    return dataclasses.replace(done, outcome=outcome, phase=process.phase, why=process.why)


def _told(step: Step) -> str:
    """An outcome in words."""
    where = f" in phase {step.phase!r}" if step.phase else ""
    why = f": {step.why}" if step.why else ""
    after = "" if step.outcome == "not started" else f" after {step.seconds:.0f} s"
    return f"{step.outcome}{where}{after}{why}"


def _record_file(out: Path, step: Step) -> Path:
    return out / "cases" / f"{step.name}.json"


def _records(out: Path, steps: Sequence[Step]) -> dict[str, Record]:
    """Name -> record, of the steps that have ended."""
    ended = [step for step in steps if step.outcome in ("valid", "not valid")]
    return {step.name: read_records(_record_file(out, step))[0] for step in ended}


def _write(out: Path, steps: Sequence[Step]) -> None:
    """State and records of what has ended so far."""
    out.mkdir(parents=True, exist_ok=True)
    state = {"suite": SUITE, "steps": [dataclasses.asdict(step) for step in steps]}
    (out / "set.json").write_text(json.dumps(state, indent=2) + "\n")
    if records := _records(out, steps):
        write_records(out / "records.json", list(records.values()))
