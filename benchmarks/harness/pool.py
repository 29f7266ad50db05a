"""Several runs of the same work as one record: what runs an hour apart differ by is noise, too."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.harness.record import Record, Timing, rates


def work_of(record: Record) -> tuple[Any, ...]:
    """What was done: how often and against whom it was timed changes nothing about our work."""
    return record.case, _settings(record, "peer", "repetitions")


def pool(records: Sequence[Record]) -> list[Record]:
    """One record for each case, with its settings and peers, of one commit, machine and versions.

    Records of files that differed from the commit stay apart: nobody knows whether they are alike.

    Medians and spreads are those of all repetitions of all runs. A ratio is the median of those of
    the runs, so that drift, which ours and the peers share, does not count; its spread is theirs,
    and that within a run. A validation that failed in one run has failed. What else is there is the
    last run's.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        machine = record.machine
        where = (machine.cpu, machine.cores, machine.device_kind, machine.num_devices)
        code = (
            record.commit,
            record.date if record.dirty else "",
            *sorted(record.versions.items()),
        )
        same = (record.case, _settings(record, "repetitions"), code, where)
        groups.setdefault(same, []).append(record)
    return [_one(runs) if len(runs) > 1 else runs[0] for runs in groups.values()]


def _settings(record: Record, *apart: str) -> tuple[Any, ...]:
    return tuple(sorted((k, v) for k, v in record.settings.items() if k not in apart))


def _one(runs: Sequence[Record]) -> Record:
    last = runs[-1]

    def median(figure: Callable[[Record], float]) -> float:
        return float(np.median([figure(run) for run in runs]))

    machine = dataclasses.replace(
        last.machine,
        gemm_flops={
            d: median(lambda run, d=d: run.machine.gemm_flops[d]) for d in last.machine.gemm_flops
        },
        bandwidth=median(lambda run: run.machine.bandwidth),
    )
    timings = {
        who: Timing.of([seconds for run in runs for seconds in run.timings[who].seconds])
        for who in last.timings
    }
    pooled = dataclasses.replace(
        last,
        compile_seconds=median(lambda run: run.compile_seconds),
        timings=timings,
        ratios={who: median(lambda run, who=who: run.ratios[who]) for who in last.ratios},
        ratio_spreads={who: _ratio_spread(runs, who) for who in last.ratios},
        machine=machine,
        validation=max((run.validation for run in runs), key=lambda verdict: verdict.excess),
    )
    return dataclasses.replace(pooled, **rates(pooled, machine, str(last.settings["dtype"])))


def _ratio_spread(runs: Sequence[Record], who: str) -> float:
    low, high = np.percentile([run.ratios[who] for run in runs], [25, 75])
    within = np.median([run.ratio_spread(who) for run in runs])
    return math.hypot((high - low) / 2, within)
