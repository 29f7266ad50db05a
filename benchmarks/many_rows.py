"""`python -m benchmarks.many_rows`: what a sweep of 10 million rows costs beside its explanations.

Each step of a sweep (making the store, taking a lease, a journal, a shard, the end, opening,
asking) is timed on stores of growing numbers of rows. A line is put through the logarithms of the
times, and the table says what each step would cost at 10 million rows by 1,000 workers, how often
it happens, and how its sum grows: by the first power of the number of rows where it is linear.
Rows have maps of 2 x 2 pixels: it is about what does not depend on the size of a map.
"""

import dataclasses
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tyro

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store import Entry, PlanRow, StoredImage, ZarrStore
from jaxseg_xai.store.leases import Leases
from jaxseg_xai.store.query import query
from jaxseg_xai.store.shards import MOST_ROWS
from jaxseg_xai.sweeps.worker import images_per_part

#: Explanations of an image, and of a batch, which is a journal.
_CLASSES, _BATCH = 5, 32
_LABEL = "method"
_QUESTION = "SELECT status, avg(seconds), count(*) FROM rows GROUP BY status"
_ROWS, _QUICK_ROWS = (10_000, 100_000, 1_000_000), (200, 2_000)
#: A sum that grows by a larger power than this is not linear.
_LINEAR = 1.1


@dataclasses.dataclass(frozen=True)
class Step:
    """Something that a sweep does many times.

    Attributes:
      about: what it is.
      times: (rows, workers) -> how often, in a whole sweep.
      parallel: whether workers do it beside each other.
    """

    about: str
    times: Callable[[int, int], float]
    parallel: bool


#: What is measured -> what it is.
STEPS = {
    "create": Step("making the plan and an empty store", lambda rows, workers: 1, False),
    "resume": Step("a worker's look at it, to go on", lambda rows, workers: workers, True),
    "look": Step(
        "looking at all leases (again and again, in a twentieth of a worker's time)",
        lambda rows, workers: workers,
        True,
    ),
    "lease": Step(
        "taking one, saying that it is done", lambda rows, workers: _num_parts(rows), True
    ),
    "journal": Step(f"keeping a batch of {_BATCH}", lambda rows, workers: rows / _BATCH, True),
    "shard": Step(
        f"from journals to a shard of {MOST_ROWS}", lambda rows, workers: rows / MOST_ROWS, False
    ),
    "finish": Step("the end: what is left, and the metadata", lambda rows, workers: 1, False),
    "open": Step("opening it and counting statuses", lambda rows, workers: 1, False),
    "read": Step("one explanation", lambda rows, workers: 1, False),
    "query": Step("a question in SQL", lambda rows, workers: 1, False),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Time every step of a sweep on stores of growing size, and say what 10 million rows cost.

    Attributes:
      rows: of the stores, ascending; the last ones say how the costs grow.
      quick: small stores, to see that it works.
      at: rows that are extrapolated to.
      workers: of that sweep.
      json: file for the figures.
    """

    rows: tuple[int, ...] = _ROWS
    quick: bool = False
    at: int = 10_000_000
    workers: int = 1000
    json: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """A step, and what it costs.

    Attributes:
      name: of the step.
      seconds: rows of a store -> seconds of the step there.
      power: of the number of rows, by which it grows between the two largest stores.
      each: seconds at the size that is extrapolated to.
      times: how often it happens there.
      power_of_sum: by which that grows, times included.
    """

    name: str
    seconds: dict[int, float]
    power: float
    each: float
    times: float
    power_of_sum: float


def measure(rows: int, folder: Path) -> dict[str, float]:
    """Seconds of each step, on a store of so many rows of which the first are written."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str, number: int = 1) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = (time.perf_counter() - start) / number

    path = folder / f"{rows}.zarr"
    with timed("create"):
        store = _opened(path, rows)
    del store
    with timed("resume"):
        store = _opened(path, rows)
    leases, last = Leases(path), _num_parts(rows) - 1
    leases.share()
    for part in range(last):  # those of all others are over
        leases.place.write(f"{part}/done", b"{}")
    with timed("look"):
        leases.look()
    with timed("lease"):
        lease = leases.take(str(last))
        assert lease is not None
        lease.finish()
    leases.clear()
    written = min(rows, 2 * MOST_ROWS)
    kept, moved = [], []
    for first in range(0, written, _BATCH):
        for row in range(first, min(first + _BATCH, written)):
            _write(store, row)
        before, begin = _num_shards(path), time.perf_counter()
        store.flush()
        seconds_of_it = time.perf_counter() - begin
        # Most keep a journal; that which completes a shard also makes it.
        (moved if _num_shards(path) > before else kept).append(seconds_of_it)
    seconds["journal"] = statistics.median(kept or moved)
    seconds["shard"] = statistics.median(moved or kept)
    with timed("finish"):
        store.close()
    with timed("open"):
        store = ZarrStore.open(path)
        store.counts()
    row = store.rows(_LABEL, done_only=True)[-1]
    with timed("read"):
        store.read(row)
    with timed("query"):
        query(ZarrStore.open(path), _QUESTION)
    return seconds


def costs(measured: dict[int, dict[str, float]], *, at: int, workers: int) -> list[Cost]:
    """What each step costs in a sweep of so many rows.

    Args:
      measured: rows of a store -> seconds of its steps; two sizes at least.
      at: rows of the sweep.
      workers: of it.
    """
    *_, less, most = sorted(measured)
    found = []
    for name, step in STEPS.items():
        seconds = {rows: measured[rows][name] for rows in sorted(measured)}
        power = max(0.0, math.log(seconds[most] / seconds[less]) / math.log(most / less))
        how_often = math.log(step.times(most, workers) / step.times(less, workers))
        found.append(
            Cost(
                name=name,
                seconds=seconds,
                power=power,
                each=seconds[most] * (at / most) ** power,
                times=step.times(at, workers),
                power_of_sum=power + how_often / math.log(most / less),
            )
        )
    return found


def table(found: Sequence[Cost], *, at: int, workers: int) -> str:
    """The costs as text, and where the limit is."""
    sizes = list(found[0].seconds)
    head = ["step", *(f"{n:,} rows" for n in sizes), f"at {at:,}", "times", "power of the sum", ""]
    rows = [head]
    for one in found:
        step = STEPS[one.name]
        cells = [one.name, *map(_time, one.seconds.values()), _time(one.each), f"{one.times:,.0f}"]
        rows.append([*cells, f"{one.power_of_sum:.2f}", step.about])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    alone = [one for one in found if not STEPS[one.name].parallel]
    beside = [one for one in found if STEPS[one.name].parallel]
    one_by_one = sum(one.each * one.times for one in alone)
    each_worker = sum(one.each * one.times for one in beside) / workers
    longest = max(alone, key=lambda one: one.each * one.times)
    lines += [
        "",
        f"{at:,} rows by {workers:,} workers: {_time(each_worker)} of each worker, and "
        f"{_time(one_by_one)} of one process alone.",
        f"The limit is {longest.name}, {_time(longest.each * longest.times)} one after another: "
        f"with workers that explain {at / (longest.each * longest.times):,.0f} rows a second or "
        "more together, it is what all wait for.",
    ]
    worse = [one.name for one in found if one.power_of_sum > _LINEAR]
    lines.append(f"Worse than linear: {', '.join(worse) or 'no step'}.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 where a step is worse than linear."""
    config = tyro.cli(Config, args=arguments, prog="python -m benchmarks.many_rows")
    sizes = _QUICK_ROWS if config.quick else config.rows
    measured = {}
    with tempfile.TemporaryDirectory() as name:
        for rows in sorted(sizes):
            measured[rows] = measure(rows, Path(name))
            print(f"{rows:,} rows measured", file=sys.stderr)
    found = costs(measured, at=config.at, workers=config.workers)
    print(table(found, at=config.at, workers=config.workers))
    if config.json is not None:
        figures = {"rows": config.at, "workers": config.workers}
        steps = [dataclasses.asdict(one) for one in found]
        config.json.write_text(json.dumps(figures | {"steps": steps}, indent=1))
    return int(any(one.power_of_sum > _LINEAR for one in found))


def _num_parts(rows: int) -> int:
    images = -(-rows // _CLASSES)
    return -(-images // images_per_part(images, _CLASSES, _BATCH))


def _num_shards(path: Path) -> int:
    return sum(1 for _ in path.glob(f"{_LABEL}/attribution/c.*"))


def _opened(path: Path, rows: int) -> ZarrStore:
    images = -(-rows // _CLASSES)
    plan = [
        PlanRow(image_index=i, image_id=f"image-{i:08d}", class_index=c)
        for i in range(images)
        for c in range(_CLASSES)
    ]
    return ZarrStore.create_or_resume(
        path,
        entries=[Entry(label=_LABEL, method="made up")],
        plan={_LABEL: plan[:rows]},
        config={},
        attrs={"class_names": [str(c) for c in range(_CLASSES)], "seed": 0},
    )


def _write(store: ZarrStore, row: int) -> None:
    size = (2, 2)
    if row % _CLASSES == 0:
        picture = np.zeros((*size, 3), np.uint8)
        labels = np.ones(size, np.int16)
        image = StoredImage(id="", image=picture, prediction=labels)
        store.write_image(row // _CLASSES, image)
    explanation = Explanation(
        attribution=np.full(size, row, np.float32),
        status=np.int32(Status.OK),
        scores={"dice": np.float32(0.5), "area": np.float32(0.1)},
        maps={"prediction": np.ones(size, np.int16)},
    )
    whole = np.ones(size, bool)
    target = SegmentTarget(class_index=np.int32(row % _CLASSES), region=whole, reference=whole)
    store.write(_LABEL, row, explanation, target, seconds=0.1)


def _time(seconds: float) -> str:
    for unit, one in (("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)):
        if seconds >= one:
            return f"{seconds / one:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


if __name__ == "__main__":
    sys.exit(main())
