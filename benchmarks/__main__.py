"""`python -m benchmarks list | run CASE... | compare A.json B.json | report FILES...`."""

import dataclasses
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import tyro

from benchmarks.settings import Flags
from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.devices.mesh import use_cpu_cores

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_BUG = 0, 1, 2, 70
#: Devices that a CPU of fewer cores may be split into.
_MOST_VIRTUAL = 16
#: In place of all the cases' names.
_ALL = "all"
_USAGE = """\
python -m benchmarks COMMAND

  list                     the cases
  run CASE... [options]    measure and validate (`run all`: every case); run --help: the options
  compare A B              what is slower in B than in A, beyond the noise: files, or folders of
                           the files of several runs, which are pooled
  report FILE... --out DIR Markdown and an HTML page with plots; --readme README.md fills its table

docs/benchmarks.md tells what each case measures and what the JSON holds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Flags):
    """Measure and validate cases; exit code 1 where a result is wrong.

    Attributes:
      cases: names, see `list`; `all` for every one.
      json: file to write the records to.
    """

    cases: tyro.conf.Positional[tuple[str, ...]] = ()
    json: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare:
    """What is slower in the second set than in the first; exit code 1 where something is.

    Attributes:
      before: a file that `run --json` wrote, or a folder of such files, which are pooled.
      after: the same.
    """

    before: tyro.conf.Positional[Path]
    after: tyro.conf.Positional[Path]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Markdown and one self-contained HTML page of records; runs of the same work are pooled.

    Attributes:
      files: records, as `run --json` writes them, or folders of such files.
      out: folder for report.md and report.html.
      readme: rewrite the table of measured figures in this file instead.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    out: Path = Path("report")
    readme: Path | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0: done, all valid. 1: a validation failed, or `compare` found something slower. 2: bad input,
    in one line on standard error. 70: a bug, with a traceback.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return EXIT_OK if arguments else EXIT_BAD_INPUT
    name, *rest = arguments
    commands = {"run": (Run, _run), "compare": (Compare, _compare), "report": (Report, _report)}
    try:
        if name == "list":
            return _list()
        if name not in commands:
            raise ConfigError(f"unknown command {name!r}; there is list, {', '.join(commands)}")
        config, command = commands[name]
        return command(tyro.cli(config, args=rest, prog=f"python -m benchmarks {name}"))
    except JaxsegError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Exception:
        traceback.print_exc()
        print("benchmarks: this is a bug; please report it", file=sys.stderr)
        return EXIT_BUG


def _list() -> int:
    from benchmarks.cases import CASES

    for case in CASES.values():
        print(f"{case.name:16}{case.about}")
    return EXIT_OK


def _run(config: Run) -> int:
    from benchmarks.cases import CASES
    from benchmarks.harness import prepare, run_case
    from benchmarks.record import write_records
    from benchmarks.report import summary

    names = tuple(CASES) if _ALL in config.cases else config.cases
    unknown = [name for name in names if name not in CASES]
    if unknown or not names:
        known = ", ".join((_ALL, *CASES))
        raise ConfigError(f"unknown case {', '.join(unknown) or '(none given)'}; there is {known}")
    config.validate()
    _make_devices(config.devices)
    flags = Flags(**{f.name: getattr(config, f.name) for f in dataclasses.fields(Flags)})
    plan = [(CASES[name], prepare(CASES[name], flags)) for name in names]
    records = []
    for case, settings in plan:
        records.append(run_case(case, settings))
        print(summary(records[-1]), flush=True)
        if config.json is not None:  # after every case, as the next may take long
            write_records(config.json, records)
    return EXIT_OK if all(record.validation.passed for record in records) else EXIT_FAILED


def _make_devices(wanted: int | None) -> None:
    """On CPUs a device per core, or (up to a limit) as many as are asked for."""
    usable = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    try:
        use_cpu_cores(max(cores, min(wanted or 1, _MOST_VIRTUAL)))
    except RuntimeError:  # JAX already runs where Python code calls `main`
        return


def _compare(config: Compare) -> int:
    from benchmarks.compare import compare
    from benchmarks.record import read_records

    found = compare(read_records(config.before), read_records(config.after))
    print(found.text())
    return EXIT_OK if found.passed else EXIT_FAILED


def _report(config: Report) -> int:
    from benchmarks.pool import pool
    from benchmarks.record import read_records
    from benchmarks.report import update_readme, write_report

    if not config.files:
        raise ConfigError("report needs a record; `run CASE --json FILE` makes one")
    records = pool([record for path in config.files for record in read_records(path)])
    written = (
        write_report(records, config.out)
        if config.readme is None
        else [update_readme(config.readme, records)]
    )
    print("\n".join(map(str, written)))
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
