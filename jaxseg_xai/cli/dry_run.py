"""`--dry-run`: what a sweep would do and take, after a look at some images and a warm-up."""

import sys

import jax

from jaxseg_xai.cli.command import EXIT_OK, EXIT_SOME_FAILED
from jaxseg_xai.cli.inspect import as_table, show_data, times
from jaxseg_xai.core.fields import check
from jaxseg_xai.sweeps.config import SweepConfig
from jaxseg_xai.sweeps.cost import cost_of, passes_of
from jaxseg_xai.sweeps.look import Look
from jaxseg_xai.sweeps.run import work_of
from jaxseg_xai.sweeps.warmup import Forecast, warm_up
from jaxseg_xai.sweeps.work import Work

_HEAD = ("measured", "size", "programs", "compiling", "an explanation", "of rows", "a row on disk")


def show_plan(config: SweepConfig) -> int:
    """Print what a sweep would do, and store nothing."""
    check(config)
    work = work_of(config)
    work.check()
    looks = show_data(work.source, list(work.chosen), work.bundle, config.data, num=8)
    costs = cost_of(work, passes_of(work))
    images, classes = len(work.chosen), len(work.classes)
    for job in work.jobs:
        cost = f"; {costs[job.label]}" if job.label in costs else ""
        rows = f"{images * classes} explanations, {images} images x {classes} classes"
        print(f"{job.label}: {rows}{cost}", flush=True)
    sizes = _sizes(work, looks)
    if sizes and config.warm_up:
        found = warm_up(work, sizes, storage=config.storage, costs=costs, seconds=config.warm_up)
        _show(found, config.warm_up)
    print(f"nothing was stored; without dry_run it goes to {config.out}")
    return EXIT_SOME_FAILED if all(one.problem for one in looks) else EXIT_OK


def _sizes(work: Work, looks: list[Look]) -> dict[tuple[int, ...], list[int]]:
    """Size of images -> positions of those that were looked at and have it."""
    positions = {work.source.ids[index]: n for n, index in enumerate(work.chosen)}
    found: dict[tuple[int, ...], list[int]] = {}
    for one in looks:
        if one.prepared is not None and not one.problem:
            found.setdefault(one.prepared.grid.prepared, []).append(positions[one.id])
    return found


def _show(found: Forecast, seconds: float) -> None:
    rows = [
        (
            one.label,
            times(one.size),
            str(one.num_programs),
            f"{one.compile_seconds:.1f} s",
            f"{one.seconds:.3g} s",
            f"{100 * one.share:.0f} %",
            _bytes(one.row_bytes),
        )
        for one in found.trials
    ]
    for line in as_table([_HEAD, *rows] if rows else []):
        print(line)
    if found.missing:
        print(f"not measured, for {seconds:g} s were over (--warm-up): {', '.join(found.missing)}")
    if not rows:
        return
    what = "in all" if not found.missing else f"in all but {', '.join(found.missing)}"
    parts = (
        f"{_time(found.compile_seconds)} compiling {found.num_programs} programs",
        f"{_time(found.explain_seconds)} explaining",
        f"{_time(found.other_seconds)} reading, predicting and writing",
    )
    print(f"{what} about {_time(3600 * found.hours)} on these devices: {', '.join(parts)}")
    print(f"{_bytes(found.num_bytes)} on disk; memory so far: {_memory()}")


def _time(seconds: float) -> str:
    unit, one = next((pair for pair in _UNITS if seconds >= pair[1]), _UNITS[-1])
    return f"{seconds / one:.3g} {unit}"


_UNITS = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0), ("s", 1.0))


def _bytes(number: float) -> str:
    unit, one = next((pair for pair in _SIZES if number >= pair[1]), _SIZES[-1])
    return f"{number / one:.3g} {unit}"


_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1.0))


def _memory() -> str:
    """The most that the process and a device have held."""
    found = []
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found.append(f"{_bytes(peak * (1 if sys.platform == 'darwin' else 1024))} of this process")
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.devices()]
    if known := [peak for peak in peaks if peak]:
        found.append(f"{_bytes(max(known))} of a device")
    return ", ".join(found) or "not known"
