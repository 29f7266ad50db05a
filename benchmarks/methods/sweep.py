"""A whole sweep, from images to a store on disk: what a user waits for."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from benchmarks.agree.forward import REFERENCE
from benchmarks.agree.verdict import Bound, Validation, judge
from benchmarks.harness.machine import peak_memory
from benchmarks.harness.record import Measurement, Row, Timing
from benchmarks.harness.settings import Defaults, Settings
from benchmarks.harness.timing import timed
from benchmarks.methods.base import Case
from benchmarks.methods.inputs import write_random_model
from jaxseg_xai.core.types import Explanation, SegmentTarget
from jaxseg_xai.data import open_dataset
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers import Batch, Problem, explain
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.models import load_model
from jaxseg_xai.ops.random import image_id, make_key
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.store.pools import read_pool
from jaxseg_xai.sweeps.config import DataConfig, Job, SweepConfig
from jaxseg_xai.sweeps.run import run_sweep

#: Batches of `lanes` images in one sweep.
_BATCHES, _QUICK_BATCHES = 4, 2
#: Cheaper explanations than the default ones: the whole pipeline is looked at.
_MISURE, _QUICK_MISURE = Misure(num_iterations=25), Misure(num_iterations=2, max_dilations=4)
_ATE = Ate(block_size=16, num_screen=2, num_patches=8)
_QUICK_ATE = Ate(block_size=32, num_screen=1, num_patches=2)
#: Storing and reading back loses nothing; the same program gives the same numbers.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepCase(Case):
    """MiSuRe and ATE of Triangle images into a fresh store each time; compiling is taken off."""

    def run(self, settings: Settings, mesh: Mesh) -> Measurement:
        rows: list[Row] = []
        with tempfile.TemporaryDirectory() as name, _programs_kept(Path(name) / "xla"):
            folder = Path(name)
            config = _config(settings, folder)

            def sweep(name: str) -> tuple[Any, float]:
                into = dataclasses.replace(config, out=folder / name)
                return timed(run_sweep, into, progress=False)

            first, _ = sweep("first")
            validation = _validate(config, folder / "first", settings, mesh)
            for turn in range(settings.repetitions):
                result, wall = sweep(str(turn))
                wall -= result.times.compile_seconds
                explaining = sum(result.times.compute_seconds.values()) / wall
                again = timed(
                    _writing_again(folder / str(turn), settings.lanes), folder / f"{turn} again"
                )[1]
                shares = {"explaining": explaining, "storage": again / wall}
                shares["rest"] = 1 - sum(shares.values())
                rows.append({"seconds": wall} | {f"share_{k}": v for k, v in shares.items()})
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


def _config(settings: Settings, folder: Path) -> SweepConfig:
    model, quick = settings.model, settings.quick
    if settings.width is not None:
        model = str(folder / "model")
        write_random_model(Path(model), settings.width)
    elif model == "reference":
        model = str(REFERENCE)
    limit = settings.lanes * (_QUICK_BATCHES if quick else _BATCHES)
    misure, ate = (_QUICK_MISURE, _QUICK_ATE) if quick else (_MISURE, _ATE)
    return SweepConfig(
        model=model,
        data=DataConfig(source="triangle", size=settings.size, limit=limit),
        explain=(Job(label="misure", explainer=misure), Job(label="ate", explainer=ate)),
        batch_size=settings.lanes,
        dtype=settings.dtype,
    )


def _target(found: Any) -> SegmentTarget:
    where = {"region": found.region, "reference": found.reference}
    return SegmentTarget(class_index=np.int32(found.row.class_index), **where)


def _writing_again(out: Path, lanes: int) -> Any:
    """A function that writes the contents of a store into another, with a flush a batch."""
    store = ZarrStore.open(out)
    results = [store.read(row) for row in store.rows()]
    images = {found.row.image_index: store.read_image(found.row) for found in results}
    entries = [store.entry(label) for label in store.labels]
    plan = {label: store.rows(label) for label in store.labels}

    def write(copy: Path) -> None:
        again = ZarrStore.create_or_resume(copy, entries=entries, plan=plan, config={})
        for index, image in images.items():
            if image is not None:
                again.write_image(index, image)
        for number, found in enumerate(results, start=1):
            explanation = Explanation(
                attribution=found.attribution,
                status=np.int32(found.row.status or 0),
                scores=found.row.scores,
                maps=found.maps,
                traces=found.traces,
            )
            again.write(found.row.label, found.row.number, explanation, _target(found))
            if number % lanes == 0 or number == len(results):
                again.flush()

    return write


def _validate(config: SweepConfig, out: Path, settings: Settings, mesh: Mesh) -> Validation:
    """What the store holds of the first batch against explanations that never were on a disk."""
    store, bundle = ZarrStore.open(out), load_model(config.model, dtype=config.dtype)
    dataset, worst = open_dataset("triangle", config.data.split, size=settings.size), 0.0
    by_id = {name: index for index, name in enumerate(dataset.ids)}
    for job in config.explain:
        explainer, pool = job.explainer, None
        if "patches" in explainer.needs:
            pool = read_pool(out, explainer.patch_side)
            explainer = explainer.in_box(config.roi.side)
        rows = [store.read(row) for row in store.rows(job.label)[: settings.lanes]]
        ids = [found.row.image_id for found in rows]
        batch = Batch(
            images=np.stack([dataset[by_id[name]].image for name in ids]),
            targets=jax.tree.map(lambda *leaves: np.stack(leaves), *map(_target, rows)),
            image_ids=np.stack([image_id(name) for name in ids]),
            valid=np.ones(len(rows), bool),
        )
        model = {"segmenter": bundle.segmenter, "variables": bundle.variables}
        problem = Problem(**model, key=make_key(config.seed), pool=pool)
        # Placed as the sweep places it: then its compiled programs serve again.
        again = explain(explainer, replicate(problem, mesh), batch, mesh=mesh)
        stored = np.stack([np.asarray(found.attribution) for found in rows])
        worst = max(worst, float(np.max(np.abs(stored - np.asarray(again.attribution)))))
    counts = [found for label in store.counts().values() for found in label.items()]
    bad = sum(n for status, n in counts if status in ("FAILED", "NON_FINITE", "PENDING"))
    return judge(
        Bound("of the maps", worst, _TOLERANCE),
        Bound("explanations that failed or are missing", float(bad), 0.0),
        why="maps read back from the store against maps that were never stored",
    )


@contextlib.contextmanager
def _programs_kept(folder: Path) -> Iterator[None]:
    """A sweep compiles its programs anew; only the first one of this case shall."""
    cache, seconds = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {name: getattr(jax.config, name) for name in (cache, seconds)}
    try:
        jax.config.update(cache, str(folder))
        jax.config.update(seconds, 0)
        compilation_cache.reset_cache()
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


SWEEP = SweepCase(
    name="sweep",
    about="images to a store on disk, end to end",
    defaults=Defaults(model="reference", size=128, lanes=8),
    quick=Defaults(model="triangle", size=64, lanes=4),
    has_peers=False,
    all_devices=True,
)
