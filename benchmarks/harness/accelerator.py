"""The set for a stranger's GPU or TPU: cases by worth, each in a process of its own, in a budget.

A case that hangs, crashes or fills the memory ends its own process only. After each the state
(set.json) and all records so far (records.json) are written, so that a machine that is taken away
leaves what was found. The same command goes on where it stopped.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.harness.record import Record, read_records, write_records
from benchmarks.harness.timing import phase_of
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.parse import from_table

#: Goes up when the steps or their settings change: records of two suites are not compared.
SUITE = 1
Outcome = Literal["not started", "valid", "not valid", "timed out", "failed"]
#: Seconds left under which nothing is started: importing alone takes about ten.
_LEAST = 20.0
#: Seconds that a process gets to say where it is before it is killed.
_LAST_WORDS = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One case with its options, and what became of it.

    Attributes:
      name: unique in the set; its files are called so.
      command: case and options for `run`.
      limit: seconds that it may take, start and compiling included.
      outcome: what became of it.
      seconds: that it took.
      phase: where it was when it did not end.
      why: the last line of its output, or the place in our code where it was.
    """

    name: str
    command: str
    limit: float
    outcome: Outcome = "not started"
    seconds: float = 0.0
    phase: str = ""
    why: str = ""


#: By worth: what is compared with other hardware first, variants last. Name, limit, command.
_TABLE = """
unet-forward                100 unet-forward --lanes 64 --peer compiled
ate                         120 ate --blocks 512 --peer compiled
misure                      150 misure --peer compiled
ate-512                      90 ate-512 --blocks 512 --peer tuned
misure-tensorfloat32         90 misure --dtype tensorfloat32 --peer tuned
occlusion                    60 occlusion --peer tuned
components                   60 components --quick --peer tuned
misure-512                   60 misure-512 --quick --peer tuned
sweep                        45 sweep --quick
grad-cam                     45 grad-cam --peer tuned
integrated-gradients         45 integrated-gradients --peer tuned
confidence                   45 confidence --peer tuned
misure-lanes                 45 misure-lanes
ate-wide                     60 ate-wide --peer tuned
ate-regions                  45 ate-regions
ate-screen                   45 ate-screen --quick
misure-quality               45 misure-quality --quick
scaling                      60 scaling --quick
unet-forward-tensorfloat32   45 unet-forward --lanes 128 --dtype tensorfloat32 --peer compiled
unet-forward-bfloat16        45 unet-forward --lanes 128 --dtype bfloat16 --peer compiled
unet-forward-graphs          60 unet-forward --lanes 64 --peer graphs
misure-graphs                90 misure --peer graphs
ate-graphs                   90 ate --blocks 512 --peer graphs
unet-forward-autotuned      120 unet-forward --lanes 64 --peer autotuned
"""
STEPS = tuple(
    Step(name=name, limit=float(limit), command=command)
    for name, limit, command in (line.split(maxsplit=2) for line in _TABLE.strip().splitlines())
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
    for place, step in enumerate(steps):
        wanted = not only or step.name in only
        left = end - time.monotonic()
        if wanted and step.outcome not in ("valid", "not valid") and left >= _LEAST:
            print(f"{step.name}: python -m benchmarks run {step.command}", flush=True)
            steps[place] = _run(step, out, min(step.limit, left))
            print(f"  {_told(steps[place])}", flush=True)
            _write(out, steps)
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


def _run(step: Step, out: Path, limit: float) -> Step:
    """A step in a process of its own, which is killed when its time is over."""
    log = out / "logs" / f"{step.name}.log"
    for folder in (out / "logs", out / "cases"):
        folder.mkdir(parents=True, exist_ok=True)
    # faulthandler prints where every thread is when the process is asked to abort.
    command = [sys.executable, "-X", "faulthandler", "-m", "benchmarks", "run"]
    command += [*step.command.split(), "--repetitions", "3", "--devices", "1"]
    if step.command.startswith(("sweep", "scaling")):
        command = command[:-2]  # they use every device
    command += ["--machine", str(out / "machine.json"), "--json", str(_record_file(out, step))]
    start = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(out),
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
            _stop(process)
    said = log.read_text()
    seconds = round(time.monotonic() - start, 1)
    done = dataclasses.replace(step, seconds=seconds, phase="", why="")
    if code in (0, 1) and _record_file(out, step).is_file():
        return dataclasses.replace(done, outcome="valid" if code == 0 else "not valid")
    if code is None:
        outcome, why = "timed out", _place_of(said)
    else:
        lines = [line for line in said.splitlines() if line.strip()]
        outcome, why = "failed", (lines or ["no output"])[-1][-300:]
    return dataclasses.replace(done, outcome=outcome, phase=phase_of(said), why=why)


def _environment(out: Path) -> dict[str, str]:
    """What is compiled is kept for the next step and call; PyTorch gets half of the memory."""
    kept = out.absolute() / "programs"
    return {
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(kept / "jax"),
        "TORCHINDUCTOR_CACHE_DIR": str(kept / "torch"),
        "PYTHONUNBUFFERED": "1",
    }


def _stop(process: subprocess.Popen) -> None:
    """Ask for last words, then kill the process and its children."""
    process.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LAST_WORDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _place_of(said: str) -> str:
    """The innermost place in our code that the traceback of the main thread names."""
    main = said.rpartition("most recent call first")[2]
    found = re.search(r'File ".*?/((?:benchmarks|jaxseg_xai)/\S+)", line (\d+) in (\S+)', main)
    return f"{found[1]}:{found[2]} in {found[3]}" if found else ""


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
