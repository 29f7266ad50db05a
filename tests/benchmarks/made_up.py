"""Records that nobody measured."""

import dataclasses

from benchmarks.agree.verdict import Validation
from benchmarks.harness.record import SCHEMA, Machine, Memory, PeerSample, Record, Timing

MACHINE = Machine(
    cpu="AMD EPYC",
    cores=2,
    platform="cpu",
    device_kind="cpu",
    num_devices=2,
    memory_bytes=2**34,
    gemm_flops={"float32": 2.7e11},
    bandwidth=4e10,
)
VALID = Validation(
    max_abs_diff=3e-6, tolerance=1e-3, unit="Dice points", passed=True, flips=[], why="rounding"
)
SETTINGS = {
    "model": "reference",
    "size": 256,
    "lanes": 1,
    "devices": 2,
    "dtype": "float32",
    "peer": "all",
    "quick": False,
    "repetitions": 5,
}
_RECORD = Record(
    schema=SCHEMA,
    case="ate",
    settings=SETTINGS,
    versions={"python": "3.11", "jax": "0.10.2", "torch": "2.13.0"},
    commit="0" * 40,
    dirty=False,
    date="2026-01-01T00:00:00+00:00",
    machine=MACHINE,
    compile_seconds=12.5,
    timings={
        "ours": Timing.of([10.0, 10.2, 10.1, 9.9, 10.0]),
        "original": Timing.of([30.0, 31.0]),
        "tuned": Timing.of([12.0, 12.5, 12.1]),
    },
    work={"interventions": 30000.0, "explanations": 1.0},
    throughput={"interventions": 3000.0, "explanations": 0.1},
    flops=1e12,
    flops_of="forward passes",
    share_of_peak=0.37,
    memory=Memory(program_bytes=2**28, process_peak_bytes=2**30),
    ratios={"original": 30.5, "tuned": 12.1},
    peer_sample={"original": PeerSample(what="16 of 1024 blocks")},
    validation=VALID,
)
_PROGRAM = {"program": "forward"}
_POINT = {"seconds": 0.5, "spread": 0.01}
_SERIES = {
    "devices": [
        {**_PROGRAM, "devices": n, "lanes": 8, "efficiency": 1 / n**0.2, **_POINT} for n in (1, 2)
    ],
    "lanes": [
        {**_PROGRAM, "lanes": n, "size": 64, "per_second": 9.0, "program_bytes": 1e6 * n, **_POINT}
        for n in (2, 4)
    ],
    "size": [
        {**_PROGRAM, "lanes": 2, "size": n, "per_second": 9.0, "program_bytes": None, **_POINT}
        for n in (32, 64)
    ],
    "blocks": [{"blocks": n, "interventions": 3.0, **_POINT} for n in (2, 8)],
    "memory": [{**_PROGRAM, "memory_bytes_per_device": 2**34, "predicted_lanes": 34000.0}],
    "roofline": [{**_PROGRAM, "intensity": 8.0, "flops_per_second": 1e11}],
}


def record(**changes):
    return dataclasses.replace(_RECORD, **changes)


def timed(*seconds, **changes):
    return record(timings={"ours": Timing.of(seconds)}, ratios={}, peer_sample={}, **changes)


def scaling():
    return record(case="scaling", ratios={}, series=_SERIES, peer_sample={})
