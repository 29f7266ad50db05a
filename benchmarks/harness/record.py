"""The record of one case: what was measured, of what, where; as JSON and back.

One JSON object per case (a file holds one, or a list of them) with the fields of `Record`. Times
are seconds, rates are per second, memory is bytes. docs/benchmarks.md describes the same fields for
readers of the JSON. A difference that is not a number is written as Infinity.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agree.verdict import Validation
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.parse import from_table

#: Goes up when a field changes its meaning or its name.
SCHEMA = 1

#: A row of a table in `series`: column -> value.
Row = dict[str, float | str | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timing:
    """Repetitions of one piece of work, once everything is compiled and warm."""

    seconds: tuple[float, ...]  # in the order they ran; a mean where it was done several times
    median: float
    spread: float  # half the interquartile range: one disturbed repetition of five moves nothing
    joules: float | None = None  # that the GPUs used for one call, where they tell

    @classmethod
    def of(cls, seconds: Sequence[float], joules: float | None = None) -> "Timing":
        """Median and spread of at least one repetition."""
        low, median, high = np.percentile(seconds, [25, 50, 75])
        spread = float(high - low) / 2
        return cls(seconds=tuple(seconds), median=float(median), spread=spread, joules=joules)

    @property
    def relative_spread(self) -> float:
        """The spread as a share of the median."""
        return self.spread / self.median


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it ran, and what this machine itself can do, measured in the same run."""

    cpu: str  # model name of the host's processor
    cores: int  # of the host that this process may use
    platform: str  # JAX's: cpu, gpu or tpu
    device_kind: str  # JAX's name of the device
    num_devices: int  # that the case used
    memory_bytes: int | None  # of one device; CPU devices share the host's equally
    gemm_flops: dict[str, float]  # dtype -> FLOP/s of a large matrix product a device, all at once
    bandwidth: float  # bytes/s of a triad a + s b, all devices at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak memory, by as many ways of measuring as the platform offers."""

    program_bytes: int | None = None  # arguments, outputs, temporaries of the program, per device
    device_peak_bytes: int | None = None  # since the process began (accelerators only)
    process_peak_bytes: int | None = None  # largest resident size so far, peers included


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeerSample:
    """What part of the work a slow peer did; its median times `scale` is compared with ours."""

    what: str
    scale: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a case measures; the harness adds where and of what, and so makes a `Record`.

    Attributes:
      compile_seconds: tracing and compiling of our program, not part of any timing.
      timings: who -> repetitions; "ours" is always there, "original" and "tuned" where asked for,
        in the dtype and on the kind of device of ours.
      work: what one repetition of "ours" does, e.g. {"interventions": 31000}.
      flops: floating-point operations of that work, as `flops_of` counts them; None: not counted.
      flops_of: how they are counted. XLA counts the body of a loop once, so they are those of one
        evaluation outside any loop times the number of evaluations.
      memory: peak memory.
      ratios: peer -> its median time over ours on the same work in the same run.
      peer_sample: peer -> the part of the work that it did, where it was not all.
      validation: whether the result is right.
      series: name -> table, for cases with more than one point.
    """

    compile_seconds: float
    timings: dict[str, Timing]
    work: dict[str, float]
    flops: float | None
    flops_of: str
    memory: Memory
    validation: Validation
    ratios: dict[str, float] = dataclasses.field(default_factory=dict)
    peer_sample: dict[str, PeerSample] = dataclasses.field(default_factory=dict)
    series: dict[str, list[Row]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record(Measurement):
    """One case of one run."""

    schema: int
    case: str
    settings: dict[str, bool | int | str]  # what `--model --size ...` came to, and XLA_FLAGS
    versions: dict[str, str]  # python, jax, jaxlib, flax, numpy, and torch where a peer ran
    commit: str  # of the repository; "" outside of one
    dirty: bool  # whether files differed from that commit
    date: str  # UTC, ISO 8601
    machine: Machine
    throughput: dict[str, float]  # work per second of "ours"
    share_of_peak: float | None  # FLOP/s of "ours" over the measured GEMM peak of the dtype
    ratio_spreads: dict[str, float] = dataclasses.field(default_factory=dict)  # of pooled runs only

    def ratio_spread(self, peer: str) -> float:
        """Spread of a ratio; of one run, that of the two timings."""
        both = (self.timings[who].relative_spread for who in ("ours", peer))
        return self.ratio_spreads.get(peer, self.ratios[peer] * math.hypot(*both))


def rates(found: Measurement, machine: Machine, dtype: str) -> dict[str, Any]:
    """The fields `throughput` and `share_of_peak` of what was measured on a machine."""
    seconds = found.timings["ours"].median
    # No peak of other dtypes than float32 was measured on CPUs, which are not faster in them.
    peak = machine.gemm_flops.get(dtype)
    return {
        "throughput": {what: amount / seconds for what, amount in found.work.items()},
        "share_of_peak": found.flops / seconds / peak if found.flops and peak else None,
    }


def write_records(path: Path, records: Sequence[Record]) -> None:
    """One object, or a list where there are several; on a full disk the old file stays."""
    tables = [dataclasses.asdict(record) for record in records]
    text = json.dumps(tables[0] if len(tables) == 1 else tables, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(text + "\n")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write the record ({error.strerror})") from None


def read_records(path: Path) -> list[Record]:
    """The records of a file, or of all JSON files of a folder in the order of their names.

    Raises:
      ConfigError: no such file, no file in the folder, not JSON, not a record, or one of another
        schema version.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise ConfigError(f"{path}: holds no JSON file")
        return [record for file in files for record in read_records(file)]
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})") from None
    tables = found if isinstance(found, list) else [found]
    if not tables:
        raise ConfigError(f"{path}: holds no record")
    return [_read(path, table) for table in tables]


def _read(path: Path, table: Any) -> Record:
    if not isinstance(table, dict) or "schema" not in table:
        raise ConfigError(
            f"{path}: not a benchmark record; `python -m benchmarks run CASE --json FILE` makes one"
        )
    if table["schema"] != SCHEMA:
        raise ConfigError(
            f"{path}: schema version {table['schema']!r}, this code reads {SCHEMA}; run it anew"
        )
    try:
        return from_table(Record, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: not a valid record: {error}") from None
