"""Several runs of the same work as one record: what runs an hour apart differ by is noise, too."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.record import Machine, Record, Timing


def work_of(record: Record) -> tuple[Any, ...]:
    """What was done: how often and against whom it was timed changes nothing about our work."""
    return record.case, _settings(record, "peer", "repetitions")


def pool(records: Sequence[Record]) -> list[Record]:
    """One record for each case, with its settings and peers, of one commit, machine and versions.

    Medians and spreads are those of all repetitions of all runs, and the ratios follow from them;
    a validation that failed in one run has failed. What else is there is the last run's.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        machine = record.machine
        where = (machine.cpu, machine.cores, machine.device_kind, machine.num_devices)
        code = (record.commit, record.dirty, *sorted(record.versions.items()))
        same = (record.case, _settings(record, "repetitions"), code, where)
        groups.setdefault(same, []).append(record)
    return [_one(runs) if len(runs) > 1 else runs[0] for runs in groups.values()]


def _settings(record: Record, *apart: str) -> tuple[Any, ...]:
    return tuple(sorted((k, v) for k, v in record.settings.items() if k not in apart))


def _one(runs: Sequence[Record]) -> Record:
    last = runs[-1]
    timings = {
        who: Timing.of([seconds for run in runs for seconds in run.timings[who].seconds])
        for who in last.timings
    }
    seconds, machine = timings["ours"].median, _machine([run.machine for run in runs])
    peak = machine.gemm_flops.get(str(last.settings["dtype"]))
    verdicts = [run.validation for run in runs]
    return dataclasses.replace(
        last,
        compile_seconds=float(np.median([run.compile_seconds for run in runs])),
        timings=timings,
        ratios={who: timings[who].median / seconds * _scale(last, who) for who in last.ratios},
        throughput={what: amount / seconds for what, amount in last.work.items()},
        machine=machine,
        share_of_peak=last.flops / seconds / peak if last.flops and peak else None,
        validation=max(verdicts, key=lambda v: (not v.passed, v.max_abs_diff)),
    )


def _scale(record: Record, peer: str) -> float:
    """The work over the part of it that a peer did."""
    sample = record.peer_sample.get(peer)
    return 1.0 if sample is None else sample.scale


def _machine(machines: Sequence[Machine]) -> Machine:
    """The last, with the medians of the peaks that the runs measured."""
    last = machines[-1]
    return dataclasses.replace(
        last,
        gemm_flops={
            dtype: float(np.median([machine.gemm_flops[dtype] for machine in machines]))
            for dtype in last.gemm_flops
        },
        bandwidth=float(np.median([machine.bandwidth for machine in machines])),
    )
