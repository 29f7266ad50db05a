"""A store of 100,000 explanations of all methods: its files, and how long it takes to ask it."""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.verdict import Bound, judge
from benchmarks.harness.machine import peak_memory
from benchmarks.harness.record import Measurement, Row, Timing
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import phase
from benchmarks.harness.turns import alone
from benchmarks.methods.base import Case
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.store import Entry, PlanRow, StoredImage, ZarrStore
from jaxseg_xai.store.query import query

_ROWS, _QUICK_ROWS = 100_000, 2_000
_QUESTION = "SELECT label, avg(seconds), count(*) FROM rows WHERE status = 'OK' GROUP BY label"
#: What is measured -> the most that it may be.
_MOST = {"files": 2000.0, "open": 0.2, "one explanation": 0.02, "a query": 1.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreCase(Case):
    """Made-up maps with the columns of every method, as many rows of each."""

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        """See `Case.run`."""
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "store.zarr"
            phase("writing")
            start = time.perf_counter()
            rows = _write(path, settings)
            seconds = time.perf_counter() - start
            phase("asking")
            files = sum(1 for found in path.rglob("*") if found.is_file())
            size = sum(found.stat().st_size for found in path.rglob("*") if found.is_file())
            with alone():
                series = [_ask(path, settings.repetitions)]
        series[0] |= {"files": float(files), "megabytes": size / 1e6}
        bounds = [Bound(what, float(series[0][what] or 0), most) for what, most in _MOST.items()]
        return Measurement(
            compile_seconds=0.0,
            timings={"ours": Timing.of([seconds])},
            work={"explanations": float(rows)},
            flops=None,
            flops_of="not counted",
            memory=peak_memory(None, mesh),
            validation=judge(*bounds, why="files, and seconds, of a store of 100,000 explanations"),
            series={"store": series},
        )


def _write(path: Path, settings: Settings) -> int:
    """The number of rows."""
    names = EXPLAINERS.names()
    each = (_QUICK_ROWS if settings.quick else _ROWS) // len(names)
    plan = [PlanRow(image_index=i, image_id=f"image-{i:06d}", class_index=1) for i in range(each)]
    store = ZarrStore.create_or_resume(
        path,
        entries=[Entry(label=name, method=name) for name in names],
        plan=dict.fromkeys(names, plan),
        config={},
        attrs={"class_names": ["background", "made up"], "seed": 0},
    )
    shape, rng = (settings.size, settings.size), np.random.default_rng(0)
    maps = rng.normal(size=(64, *shape)).astype(np.float32)
    region = maps[0] > 0
    target = SegmentTarget(class_index=np.int32(1), region=region, reference=region)
    for index in range(each):
        picture = np.full((*shape, 3), index % 256, np.uint8)
        prediction = region.astype(np.int16)
        store.write_image(index, StoredImage(id="", image=picture, prediction=prediction))
        for name in names:
            explanation = Explanation(
                attribution=maps[index % len(maps)],
                status=np.int32(Status.OK),
                scores=dict.fromkeys(EXPLAINERS.get(name).meta.scores, np.float32(index)),
                maps={"prediction": prediction},
            )
            store.write(name, index, explanation, target, seconds=0.1)
    store.close()
    return each * len(names)


def _ask(path: Path, repetitions: int) -> Row:
    """Median seconds of what a reader does, each with a store that was just opened."""

    def median(ask: Callable[[Any], Any], prepare: Callable[[], Any]) -> float:
        found = []
        for _ in range(max(3, repetitions)):
            given = prepare()
            start = time.perf_counter()
            ask(given)
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    def opened() -> ZarrStore:
        store = ZarrStore.open(path)
        store.rows(store.labels[0])
        return store

    row = opened().rows(opened().labels[0])[-1]
    return {
        "open": median(lambda _: ZarrStore.open(path).counts(), lambda: None),
        "one explanation": median(lambda store: store.read(row), opened),
        "a query": median(lambda _: query(ZarrStore.open(path), _QUESTION), lambda: None),
        "all rows": median(lambda _: ZarrStore.open(path).rows(), lambda: None),
    }


STORE = StoreCase(
    name="store",
    about="100,000 explanations on disk: files, opening, one of them, a query",
    defaults=Settings(model="reference", size=32, lanes=1),
    quick=Settings(model="triangle", size=16, lanes=1),
    has_peers=False,
    all_devices=True,
)
