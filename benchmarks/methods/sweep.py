"""A whole sweep, from images to a store on disk, against the same into memory."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.verdict import Bound, Validation, judge
from benchmarks.harness.machine import peak_memory
from benchmarks.harness.record import Measurement, Row, Timing
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import phase, timed
from benchmarks.harness.turns import alone
from benchmarks.methods.base import Case
from benchmarks.methods.inputs import name_of_model
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.explainers.uncertainty.confidence import Confidence
from jaxseg_xai.store import Store, ZarrStore
from jaxseg_xai.sweeps.config import DataConfig, Job, SweepConfig
from jaxseg_xai.sweeps.run import run_in_memory, run_into_zarr, run_sweep, work_of

#: Explanations of each method in one sweep.
_ROWS, _QUICK_ROWS = 256, 8
#: Cheaper explanations than the default ones: the whole pipeline is looked at.
_MISURE, _QUICK_MISURE = Misure(num_iterations=25), Misure(num_iterations=2, max_dilations=4)
_ATE = Ate(block_size=16, num_screen=2, num_patches=8)
_QUICK_ATE = Ate(block_size=32, num_screen=1, num_patches=2)
#: Storing and reading back loses nothing; the same program gives the same numbers.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepCase(Case):
    """Methods on Triangle images, into a fresh store and into memory by turns.

    Both begin with the model and the list of images in memory, and find their programs compiled.
    `overhead` is the time into a store over that into memory, minus 1.

    Attributes:
      methods: what is computed.
      quick_methods: the same with --quick.
    """

    methods: tuple[Explainer, ...]
    quick_methods: tuple[Explainer, ...]

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        rows: list[Row] = []
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            config = dataclasses.replace(self._config(settings, folder), out=folder / "first")
            phase("compiling")
            first = run_sweep(config, progress=False)
            memory = run_in_memory(work_of(config), progress=False)
            validation = _validate(ZarrStore.open(config.out), memory)
            phase("timing")
            for turn in range(settings.repetitions):
                into, work = dataclasses.replace(config, out=folder / str(turn)), work_of(config)
                with alone():
                    result, wall = timed(run_into_zarr, work, into, progress=False)
                with alone():
                    _, without = timed(run_in_memory, work, progress=False)
                wall -= result.times.compile_seconds
                explaining = sum(result.times.compute_seconds.values()) / wall
                row: Row = {"seconds": wall, "in_memory": without, "overhead": wall / without - 1}
                rows.append(row | {"share_explaining": explaining})
        counts = [sum(found.values()) for found in first.counts.values()]
        return Measurement(
            compile_seconds=first.times.compile_seconds,
            timings={"ours": Timing.of([float(row["seconds"] or 0) for row in rows])},
            work={"images": float(first.times.num_images), "explanations": float(sum(counts))},
            flops=None,
            flops_of="not counted",
            memory=peak_memory(None, mesh),
            validation=validation,
            series={"sweep": rows},
        )

    def _config(self, settings: Settings, folder: Path) -> SweepConfig:
        quick = settings.quick
        limit = _QUICK_ROWS if quick else _ROWS
        methods = self.quick_methods if quick else self.methods
        return SweepConfig(
            model=name_of_model(settings, folder),
            data=DataConfig(source="triangle", size=settings.size, num=limit),
            explain=tuple(Job(label=method.name, explainer=method) for method in methods),
            batch_size=settings.lanes,
            dtype=settings.dtype,
        )


def _validate(store: Store, memory: Store) -> Validation:
    """What the store holds against what never was on a disk."""
    maps, others = (
        np.stack([np.asarray(found.read(row).attribution) for row in found.rows()])
        for found in (store, memory)
    )
    worst = float(np.max(np.abs(maps - others)))
    counts = [found for label in store.counts().values() for found in label.items()]
    bad = sum(n for status, n in counts if status in ("FAILED", "NON_FINITE", "PENDING"))
    return judge(
        Bound("of the maps", worst, _TOLERANCE),
        Bound("explanations that failed or are missing", float(bad), 0.0),
        why="maps read back from the store against maps that were never stored",
    )


SWEEP = SweepCase(
    name="sweep",
    about="MiSuRe and ATE, from images to a store on disk, end to end",
    defaults=Settings(model="reference", size=128, lanes=8),
    quick=Settings(model="triangle", size=64, lanes=4),
    has_peers=False,
    all_devices=True,
    methods=(_MISURE, _ATE),
    quick_methods=(_QUICK_MISURE, _QUICK_ATE),
)
SWEEP_64 = SweepCase(
    name="sweep-64",
    about="the same with a quick method on small images",
    defaults=Settings(model="reference", size=64, lanes=8),
    quick=Settings(model="triangle", size=32, lanes=4),
    has_peers=False,
    all_devices=True,
    methods=(Confidence(),),
    quick_methods=(Confidence(),),
)
