"""`python -m benchmarks list | run | accelerator | agree | compare | report`."""

import contextlib
import dataclasses
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import tyro

from benchmarks.harness.settings import Flags
from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.devices.mesh import cpu_cores, use_cpu_cores

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_BUG = 0, 1, 2, 70
#: Devices that a CPU of fewer cores may be split into.
_MOST_VIRTUAL = 16
#: In place of all the cases' names.
_ALL = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class List:
    """The cases."""

    def go(self) -> int:
        from benchmarks.methods import CASES

        print("\n".join(f"{case.name:22}{case.about}" for case in CASES.values()))
        return EXIT_OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Flags):
    """Measure and validate cases (`run all`: every case); exit code 1 where a result is wrong.

    Attributes:
      cases: names, see `list`; `all` for every one.
      json: file to write the records to.
      machine: file with the speed of this machine, as the first run that names it has measured it.
    """

    cases: tyro.conf.Positional[tuple[str, ...]] = ()
    json: Path | None = None
    machine: Path | None = None

    def go(self) -> int:
        from benchmarks.harness.record import write_records
        from benchmarks.harness.report import summary
        from benchmarks.harness.run import prepare, run_case
        from benchmarks.harness.timing import show_phases
        from benchmarks.harness.turns import join
        from benchmarks.methods import CASES

        names = tuple(CASES) if _ALL in self.cases else self.cases
        unknown = [name for name in names if name not in CASES]
        if unknown or not names:
            known, bad = ", ".join((_ALL, *CASES)), ", ".join(unknown) or "(none given)"
            raise ConfigError(f"unknown case {bad}; there is {known}")
        self.validate()
        show_phases()
        join()
        _make_devices(self.devices)
        plan = [(CASES[name], prepare(CASES[name], self)) for name in names]
        records = []
        for case, settings in plan:
            records.append(run_case(case, settings, self.machine))
            print(summary(records[-1]), flush=True)
            if self.json is not None:  # after every case, as the next may take long
                write_records(self.json, records)
        return EXIT_OK if all(record.validation.passed for record in records) else EXIT_FAILED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accelerator:
    """Cases for a GPU or TPU of some minutes, each a process; exit code 1 if one fails.

    By worth. The same command goes on where it stopped: what has ended is not run again.

    Attributes:
      budget: seconds for all; a case that does not fit into what is left is not started.
      out: folder for set.json, records.json, table.md, picture.png, logs, compiled programs.
      only: names of cases; all where left out.
    """

    budget: float = 480.0
    out: Path = Path("runs/accelerator")
    only: tuple[str, ...] = ()

    def go(self) -> int:
        from benchmarks.harness.accelerator import run_set, show

        steps = run_set(self.out, self.budget, self.only)
        print("\n".join(map(str, show(self.out, steps))))
        return EXIT_OK if all(step.outcome == "valid" for step in steps) else EXIT_FAILED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agree:
    """Agreement with published code and PyTorch; exit code 1 where there is none.

    Attributes:
      real: folder with third-party references (a public retina U-Net and DRIVE images).
      blocks: so many evenly spaced blocks of the ATE instead of all.
      json: file to write the figures to.
    """

    real: Path | None = None
    blocks: int | None = None
    json: Path | None = None

    def go(self) -> int:
        from benchmarks.agree.published import agreement

        _make_devices(None)
        found = agreement(self.real, self.blocks)
        text = json.dumps(found, indent=2)
        print(text)
        if self.json is not None:
            self.json.write_text(f"{text}\n")
        verdicts = [part["passed"] for part in found.values() if isinstance(part, dict)]
        return EXIT_OK if all(verdicts) else EXIT_FAILED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare:
    """What is slower in the second set, beyond the noise; exit code 1 where something is.

    Attributes:
      before: a file that `run --json` wrote, or a folder of such files, which are pooled.
      after: the same.
    """

    before: tyro.conf.Positional[Path]
    after: tyro.conf.Positional[Path]

    def go(self) -> int:
        from benchmarks.harness.compare import compare
        from benchmarks.harness.record import read_records

        found = compare(read_records(self.before), read_records(self.after))
        print(found.text())
        return EXIT_OK if found.passed else EXIT_FAILED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Markdown and one self-contained HTML page of records; runs of the same work are pooled.

    Attributes:
      files: records, as `run --json` writes them, or folders of such files.
      out: folder for report.md and report.html.
      page: put the table of all figures into this file instead.
      readme: put a table of few figures into this file instead.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("report")
    page: Path | None = None
    readme: Path | None = None

    def go(self) -> int:
        from benchmarks.harness.pool import pool
        from benchmarks.harness.record import read_records
        from benchmarks.harness.report import page_table, put_table, readme_table, write_report

        if not self.files:
            raise ConfigError("report needs a record; `run CASE --json FILE` makes one")
        records = pool([record for path in self.files for record in read_records(path)])
        pages = ((self.page, page_table), (self.readme, readme_table))
        written = [put_table(path, table(records)) for path, table in pages if path is not None]
        print("\n".join(map(str, written or write_report(records, self.out))))
        return EXIT_OK


_COMMANDS = {one.__name__.lower(): one for one in (List, Run, Accelerator, Agree, Compare, Report)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0: done, all valid. 1: a validation failed, or `compare` found something slower. 2: bad input,
    in one line on standard error. 70: a bug, with a traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m benchmarks COMMAND [--help]; docs/benchmarks.md tells more\n")
        for name, command in _COMMANDS.items():
            print(f"  {name:12} {(command.__doc__ or '').splitlines()[0]}")
        return EXIT_OK if arguments else EXIT_BAD_INPUT
    name, *rest = arguments
    try:
        if name not in _COMMANDS:
            raise ConfigError(f"unknown command {name!r}; there is {', '.join(_COMMANDS)}")
        return tyro.cli(_COMMANDS[name], args=rest, prog=f"python -m benchmarks {name}").go()
    except JaxsegError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Exception:
        traceback.print_exc()
        print("benchmarks: this is a bug; please report it", file=sys.stderr)
        return EXIT_BUG


def _make_devices(wanted: int | None) -> None:
    """On CPUs a device per core, or (up to a limit) as many as are asked for."""
    with contextlib.suppress(RuntimeError):  # JAX already runs where Python code calls `main`
        use_cpu_cores(max(cpu_cores(), min(wanted or 1, _MOST_VIRTUAL)))


if __name__ == "__main__":
    sys.exit(main())
