"""Run a sweep: every image x class x explainer of a plan, into a store, resumable."""

import dataclasses
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import flax
import jax
import numpy as np
from tqdm.auto import tqdm

import jaxseg_xai
from jaxseg_xai.core.display import to_display
from jaxseg_xai.core.errors import ConfigError, DataError, JaxsegError
from jaxseg_xai.core.types import Source, Explanation, Sample, SegmentTarget, Status
from jaxseg_xai.data import PatchPool, image_id
from jaxseg_xai.devices.mesh import deal_batch, device_mesh, pad_batch, replicate
from jaxseg_xai.explainers import EXPLAINERS, Batch, explain
from jaxseg_xai.models.bundle import Bundle, load_model
from jaxseg_xai.program.predict import predict_labels
from jaxseg_xai.store.store import ExplanationStore, PlanRow
from jaxseg_xai.store.tables import sole_writer
from jaxseg_xai.sweep.config import SweepConfig
from jaxseg_xai.sweep.inputs import (
    check_classes,
    check_layer,
    checksum,
    class_indices,
    keep_pool,
    kept_pool,
    make_pool,
)
from jaxseg_xai.sweep.targets import make_target

#: Explanations that may wait for others of their size, in batches.
_MAX_WAITING = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep did.

    Attributes:
      counts: explainer -> status -> number of rows in the store, earlier runs included.
      num_images: images explained in this run.
      compile_seconds: spent compiling in this run.
      compute_seconds: explainer -> seconds spent computing in this run, reading and writing apart.
      computed: explainer -> explanations computed in this run.
      reasons: why rows failed, each reason once, earlier runs included.
    """

    counts: dict[str, dict[str, int]]
    num_images: int
    compile_seconds: float
    compute_seconds: dict[str, float]
    computed: dict[str, int]
    reasons: tuple[str, ...] = ()

    @property
    def num_failed(self) -> int:
        """Rows that could not be explained at all."""
        return sum(counts.get("FAILED", 0) for counts in self.counts.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """One row that is ready to compute."""

    row: int
    sample: Sample
    target: SegmentTarget


def run_sweep(config: SweepConfig) -> SweepResult:
    """Explain what `config` names and store it; continues a store of the same configuration.

    An image that cannot be used is recorded as failed, with the reason, and the rest goes on.

    Raises:
      JaxsegError: the model, the data set, the store or the configuration cannot be used at all.
    """
    config.validate()
    bundle = load_model(config.model, pad=config.pad, dtype=config.dtype)
    channels = bundle.card.architecture_config().in_channels
    dataset, chosen = config.data.open(
        bundle.card.class_names, channels, read_labels=config.needs_labels
    )
    classes = class_indices(config, bundle)
    check_classes(config, bundle, dataset)
    check_layer(config, bundle)
    plan = {
        name: [
            PlanRow(
                image_index=position,
                image_id=dataset.ids[index],
                class_index=class_index,
                region_name="image" if EXPLAINERS[name].whole_image else config.roi.kind,
            )
            for position, index in enumerate(chosen)
            for class_index in classes
        ]
        for name in config.explainers
    }
    with sole_writer(config.out):
        # Before the store, so that a pool that cannot be made leaves nothing behind.
        pool = kept_pool(config) or make_pool(config, bundle, dataset, chosen)
        store = _open_store(config, bundle, plan, dataset.class_names)
        keep_pool(config, pool)
        return _Sweep(config, bundle, dataset, chosen, plan, store, pool).run()


def _open_store(
    config: SweepConfig,
    bundle: Bundle,
    plan: dict[str, list[PlanRow]],
    label_names: tuple[str, ...],
) -> ExplanationStore:
    return ExplanationStore.create_or_resume(
        config.out,
        plan=plan,
        config=config.identity()
        | {
            "architecture": dataclasses.asdict(bundle.card.architecture_config()),
            "class_names": bundle.card.class_names,
            "weights_checksum": checksum(bundle.variables),
        },
        attrs={
            "seed": config.seed,
            "model": bundle.name,
            "class_names": list(bundle.card.class_names),
            # What the numbers of the label maps mean; nothing where the data set does not say.
            "label_names": list(label_names),
            "versions": {
                "jaxseg_xai": jaxseg_xai.__version__,
                "jax": jax.__version__,
                "flax": flax.__version__,
                "python": platform.python_version(),
            },
            "device": jax.devices()[0].device_kind,
        },
        parameters={name: config.settings(name) for name in plan},
        overwrite=config.overwrite,
    )


class _Sweep:
    """The moving parts of one run."""

    def __init__(
        self,
        config: SweepConfig,
        bundle: Bundle,
        dataset: Source,
        chosen: list[int],
        plan: dict[str, list[PlanRow]],
        store: ExplanationStore,
        pool: PatchPool | None,
    ) -> None:
        self._config, self._bundle, self._dataset = config, bundle, dataset
        self._chosen, self._store = chosen, store
        self._mesh = device_mesh()
        # On every device once, not with every batch.
        self._variables, self._pool = replicate((bundle.variables, pool), self._mesh)
        self._key = jax.random.key(config.seed)
        self._compiled: dict[Any, Callable] = {}
        self._queues: dict[tuple[str, tuple[int, ...]], list[_Job]] = defaultdict(list)
        self._compile_seconds = 0.0
        self._compute_seconds = dict.fromkeys(plan, 0.0)
        self._computed = dict.fromkeys(plan, 0)
        # image position -> explainer -> pending rows
        self._pending: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for name, rows in plan.items():
            todo = store.pending(name)
            if config.retry_failed:
                failed = np.flatnonzero(store.statuses(name) == Status.FAILED)
                todo = np.union1d(todo, failed)
            for row in todo:
                self._pending[rows[row].image_index][name].append(int(row))
        # No larger than the plan: what only fills up a batch costs time too. (The plan, not what
        # is left of it: a sweep that was interrupted ends with the same batches' rounding.)
        size = min(config.batch_size, max(map(len, plan.values())))
        self._size = -(-max(1, size) // self._mesh.size) * self._mesh.size
        self._classes = {name: [row.class_index for row in rows] for name, rows in plan.items()}

    def run(self) -> SweepResult:
        positions = sorted(self._pending)
        total = sum(len(rows) for todo in self._pending.values() for rows in todo.values())
        with tqdm(total=total, unit="explanation", desc="sweep") as self._progress:
            try:
                for group in self._read_ahead(positions):
                    self._take(group)
                for key in list(self._queues):
                    self._compute(key)
            finally:
                self._store.flush()
        return SweepResult(
            counts=self._store.counts(),
            num_images=len(positions),
            compile_seconds=self._compile_seconds,
            compute_seconds=self._compute_seconds,
            computed=self._computed,
            reasons=_reasons(self._store),
        )

    def _read_ahead(self, positions: list[int]) -> Iterator[list[tuple[int, Sample | JaxsegError]]]:
        """Samples, a batch at a time, the next one read while this one is explained."""

        def read(position: int) -> tuple[int, Sample | JaxsegError]:
            try:
                return position, self._checked(self._dataset[self._chosen[position]])
            except JaxsegError as error:
                return position, error

        groups = [positions[i : i + self._size] for i in range(0, len(positions), self._size)]
        # One thread: a data set need not be safe to read from two.
        with ThreadPoolExecutor(1) as pool:
            ahead: list[list[Future]] = []
            for group in groups:
                ahead.append([pool.submit(read, position) for position in group])
                if len(ahead) == 2:
                    yield [future.result() for future in ahead.pop(0)]
            for futures in ahead:
                yield [future.result() for future in futures]

    def _checked(self, sample: Sample) -> Sample:
        channels = self._bundle.card.architecture_config().in_channels
        if sample.image.shape[-1] != channels:
            raise DataError(
                f"{sample.id}: {sample.image.shape[-1]} channels, the model takes {channels}; "
                "convert the image"
            )
        stride = self._bundle.predict.stride
        if self._config.pad == "refuse" and any(n % stride for n in sample.image.shape[:2]):
            height, width = sample.image.shape[:2]
            raise DataError(
                f"{sample.id}: {height}x{width} is not a multiple of the model's stride {stride}; "
                "set pad to edge, reflect or constant, or resize the image"
            )
        return sample

    def _take(self, group: list[tuple[int, Sample | JaxsegError]]) -> None:
        """Predict a group of samples and queue their targets, shape by shape."""
        by_shape: dict[tuple[int, ...], list[tuple[int, Sample]]] = defaultdict(list)
        for position, sample in group:
            if isinstance(sample, JaxsegError):
                for name, rows in self._pending[position].items():
                    for row in rows:
                        self._fail(name, row, str(sample))
            else:
                by_shape[sample.image.shape].append((position, sample))
        for shape, items in by_shape.items():
            images = pad_batch(np.stack([sample.image for _, sample in items]), self._size)
            run = self._compile(
                ("predict", shape),
                predict_labels,
                predict=self._bundle.predict,
                variables=self._variables,
                images=images,
                mesh=self._mesh,
            )
            predictions, finite = jax.device_get(run(variables=self._variables, images=images))
            for (position, sample), prediction, usable in zip(
                items, predictions, finite, strict=False
            ):
                shown = to_display(sample.image)
                self._store.write_image(position, shown, sample.labels, prediction)
                self._queue(position, sample, prediction, usable)
        self._store.flush()

    def _queue(self, position: int, sample: Sample, prediction: np.ndarray, finite: bool) -> None:
        for name, rows in self._pending[position].items():
            for row in rows:
                class_index = self._classes[name][row]
                try:
                    target = make_target(
                        name, class_index, prediction, sample.labels, self._config.roi
                    )
                except ConfigError as error:
                    self._fail(name, row, f"{sample.id}: {error}")
                    continue
                if target is None or not finite:  # nothing to compute: no lane is spent on it
                    status = Status.EMPTY_TARGET if finite else Status.NON_FINITE
                    nothing = _nothing(class_index, prediction, status)
                    self._store.write(name, row, *nothing, flush=False)
                    self._progress.update()
                    continue
                key = (name, sample.image.shape)
                self._queues[key].append(_Job(row=row, sample=sample, target=target))
                if len(self._queues[key]) == self._size:
                    self._compute(key)
        # Images of many sizes wait in many queues: bound what is held in memory.
        while sum(map(len, self._queues.values())) > _MAX_WAITING * self._size:
            self._compute(max(self._queues, key=lambda key: len(self._queues[key])))

    def _compute(self, key: tuple[str, tuple[int, ...]]) -> None:
        """Explain what is queued, filled up to the one batch size there is."""
        jobs = self._queues.pop(key)
        name, _ = key
        targets = jax.tree.map(lambda *leaves: np.stack(leaves), *[job.target for job in jobs])
        examples, which = deal_batch(
            {
                "images": np.stack([job.sample.image for job in jobs]),
                "targets": targets,
                "image_ids": np.array([image_id(job.sample.id) for job in jobs], np.uint32),
            },
            self._size,
            self._mesh,
        )
        explainer = self._config.explainer(name)
        batch = Batch(**examples, valid=which < len(jobs), pool=self._pool, key=self._key)
        run = self._compile(
            key,
            explain,
            explainer=explainer,
            variables=self._variables,
            batch=batch,
            predict=self._bundle.predict,
            mesh=self._mesh,
        )
        start = time.perf_counter()
        found = jax.device_get(run(explainer=explainer, variables=self._variables, batch=batch))
        self._compute_seconds[name] += time.perf_counter() - start
        self._computed[name] += len(jobs)
        for place, job in zip(np.argsort(which), jobs, strict=False):
            explanation = jax.tree.map(lambda leaf, place=place: leaf[place], found)
            self._store.write(name, job.row, explanation, job.target, flush=False)
            self._progress.update()
        self._store.flush()

    def _compile(self, key: Any, function: Any, **arguments: Any) -> Callable:
        """Compile once per key, timed apart from the computing."""
        if key not in self._compiled:
            start = time.perf_counter()
            self._compiled[key] = function.lower(**arguments).compile()
            self._compile_seconds += time.perf_counter() - start
        return self._compiled[key]

    def _fail(self, name: str, row: int, reason: str) -> None:
        self._store.fail(name, row, reason, flush=False)
        self._progress.update()


def _reasons(store: ExplanationStore) -> tuple[str, ...]:
    failed = [
        store.reason(name, int(row))
        for name in store.explainers
        for row in np.flatnonzero(store.statuses(name) == Status.FAILED)
    ]
    return tuple(dict.fromkeys(failed))


def _nothing(
    class_index: int, prediction: np.ndarray, status: Status
) -> tuple[Explanation, SegmentTarget]:
    """The explanation of what cannot be explained: zeros, with the status that says why."""
    empty = np.zeros(prediction.shape, bool)
    target = SegmentTarget(class_index=np.int32(class_index), region=empty, reference=empty)
    explanation = Explanation(
        attribution=np.zeros(prediction.shape, np.float32),
        status=np.int32(status),
        maps={"prediction": prediction},
    )
    return explanation, target
