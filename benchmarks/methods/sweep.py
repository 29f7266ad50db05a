"""A whole sweep, from images to a store on disk: what a user waits for."""

import contextlib
import dataclasses
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from benchmarks.inputs import REFERENCE, write_random_model
from benchmarks.machine import peak_memory
from benchmarks.record import Measurement, Row, Timing
from benchmarks.settings import Settings
from benchmarks.validation import Validation
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.data import image_id, open_dataset
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers import Ate, Batch, Misure, explain
from jaxseg_xai.models.bundle import load_model
from jaxseg_xai.store.store import ExplanationStore
from jaxseg_xai.sweep.config import DataConfig, SweepConfig
from jaxseg_xai.sweep.inputs import kept_pool
from jaxseg_xai.sweep.run import SweepResult, run_sweep

#: Batches of `lanes` images in one sweep.
_BATCHES, _QUICK_BATCHES = 4, 2
#: Cheaper explanations than the default ones: the whole pipeline is looked at.
_MISURE, _QUICK_MISURE = Misure(num_iterations=25), Misure(num_iterations=2, max_dilations=4)
_ATE = Ate(block_size=16, num_screen=2, num_patches=8)
_QUICK_ATE = Ate(block_size=32, num_screen=1, num_patches=2)
#: Storing and reading back loses nothing; the same program gives the same numbers.
_TOLERANCE = 1e-6


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """MiSuRe and ATE of Triangle images into a fresh store each time; compiling is taken off."""
    with tempfile.TemporaryDirectory() as name, _programs_kept(Path(name) / "xla"):
        folder = Path(name)
        config = _config(settings, folder)
        first, _, _ = _one(config, folder / "first.zarr")
        validation = _validate(config, folder / "first.zarr", settings, mesh)
        rows: list[Row] = []
        seconds: list[float] = []
        for turn in range(settings.repetitions):
            result, wall, storing = _one(config, folder / f"{turn}.zarr")
            wall -= result.compile_seconds
            explaining = sum(result.compute_seconds.values())
            seconds.append(wall)
            rows.append(
                {
                    "seconds": wall,
                    "share_explaining": explaining / wall,
                    "share_storage": storing / wall,
                    "share_rest": 1 - (explaining + storing) / wall,
                }
            )
    return Measurement(
        compile_seconds=first.compile_seconds,
        timings={"ours": Timing.of(seconds)},
        work={
            "images": float(first.num_images),
            "explanations": float(sum(sum(counts.values()) for counts in first.counts.values())),
        },
        flops=None,
        flops_of="not counted",
        memory=peak_memory(None, mesh),
        validation=validation,
        series={"sweep": rows},
    )


def _config(settings: Settings, folder: Path) -> SweepConfig:
    model = settings.model
    if settings.width is not None:
        model = str(folder / "model")
        write_random_model(Path(model), settings.width)
    elif model == "reference":
        model = str(REFERENCE)
    batches = _QUICK_BATCHES if settings.quick else _BATCHES
    return SweepConfig(
        model=model,
        data=DataConfig(source="triangle", size=settings.size, limit=batches * settings.lanes),
        misure=_QUICK_MISURE if settings.quick else _MISURE,
        ate=_QUICK_ATE if settings.quick else _ATE,
        batch_size=settings.lanes,
        dtype=settings.dtype,
    )


def _one(config: SweepConfig, out: Path) -> tuple[SweepResult, float, float]:
    """Result, wall seconds, and the seconds spent in the store's writing methods."""
    config = _into(config, out)
    stored = 0.0

    def timed(method: Any) -> Any:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal stored
            start = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                stored += time.perf_counter() - start

        return run

    with contextlib.ExitStack() as stack:
        # None of them calls another while a sweep runs, so nothing is counted twice.
        for name in ("write_image", "write", "fail", "flush"):
            method = timed(getattr(ExplanationStore, name))
            stack.enter_context(mock.patch.object(ExplanationStore, name, method))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # the progress bars
        start = time.perf_counter()
        result = run_sweep(config)
        return result, time.perf_counter() - start, stored


def _into(config: SweepConfig, out: Path) -> SweepConfig:
    return dataclasses.replace(config, out=out)


def _validate(config: SweepConfig, out: Path, settings: Settings, mesh: Mesh) -> Validation:
    """What the store holds of the first batch against explanations that never were on a disk."""
    store, bundle = ExplanationStore.open(out), load_model(config.model, dtype=config.dtype)
    # Placed as the sweep places them: then its compiled programs serve again.
    variables, pool = replicate((bundle.variables, kept_pool(_into(config, out))), mesh)
    dataset = open_dataset("triangle", config.data.split, size=settings.size)
    by_id = {name: index for index, name in enumerate(dataset.ids)}
    failed = [
        f"{name}: {n} {status}"
        for name, counts in store.counts().items()
        for status, n in counts.items()
        if status in ("FAILED", "NON_FINITE", "PENDING")
    ]
    worst = 0.0
    for name in config.explainers:
        rows = [store.read(name, row) for row in range(settings.lanes)]
        targets = [
            SegmentTarget(
                class_index=np.int32(row.plan.class_index),
                region=row.region,
                reference=row.reference,
            )
            for row in rows
        ]
        batch = Batch(
            images=np.stack([dataset[by_id[row.plan.image_id]].image for row in rows]),
            targets=jax.tree.map(lambda *leaves: np.stack(leaves), *targets),
            valid=np.ones(len(rows), bool),
            image_ids=np.array([image_id(row.plan.image_id) for row in rows], np.uint32),
            pool=pool,
            key=jax.random.key(config.seed),
        )
        explainer = config.explainer(name)
        found = explain(explainer, variables, batch, predict=bundle.predict, mesh=mesh)
        stored = np.stack([np.asarray(row.attribution) for row in rows])
        worst = max(worst, float(np.max(np.abs(stored - np.asarray(found.attribution)))))
    return Validation(
        max_abs_diff=worst,
        tolerance=_TOLERANCE,
        unit="of the maps",
        passed=worst <= _TOLERANCE and not failed,
        flips=[],
        why="maps read back from the store against maps that were never stored"
        + "".join(f"; {text}" for text in failed),
    )


@contextlib.contextmanager
def _programs_kept(folder: Path) -> Iterator[None]:
    """A sweep compiles its programs anew; only the first one of this case shall."""
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
