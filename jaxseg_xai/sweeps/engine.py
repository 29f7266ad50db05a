"""Runs a sweep into a store: reads, predicts, batches by size, explains, writes what it finds."""

import dataclasses
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxseg_xai.core.display import to_display
from jaxseg_xai.core.errors import ConfigError, EmptyImageError, JaxsegError
from jaxseg_xai.core.progress import progress_bar
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.data.others import read_others
from jaxseg_xai.devices.mesh import deal_batch, device_mesh, replicate
from jaxseg_xai.devices.programs import compiled
from jaxseg_xai.explainers import Batch, Problem
from jaxseg_xai.explainers.runner import explain, lower
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.ops.random import image_id, make_key
from jaxseg_xai.store import Store, StoredImage
from jaxseg_xai.sweeps.asked import Asked, ask, box_side, reference_in
from jaxseg_xai.sweeps.items import Item, read_ahead
from jaxseg_xai.sweeps.predictor import Predictor
from jaxseg_xai.sweeps.results import back, nothing_found
from jaxseg_xai.sweeps.tiles import Tile
from jaxseg_xai.sweeps.work import Work

#: What the examples of a batch have in common: label, shape of the image, and side of a box around
#: the region where one is known.
_Key = tuple[str, tuple[int, ...], int | None]

#: Explanations that may wait for others of their size, in batches.
_MAX_WAITING = 8
#: What a killed process loses at most, beside the batch that it computes.
_SECONDS = 5.0


@dataclasses.dataclass(kw_only=True)
class Times:
    """Where the time of a run went.

    Attributes:
      compile_seconds: spent compiling.
      compute_seconds: label -> seconds spent computing, reading and writing apart.
      computed: label -> explanations computed.
      num_images: images explained.
    """

    compile_seconds: float = 0.0
    compute_seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    computed: dict[str, int] = dataclasses.field(default_factory=dict)
    num_images: int = 0


class Engine:
    """One run of a sweep."""

    def __init__(
        self,
        work: Work,
        store: Store,
        pools: dict[int, PatchPool],
        *,
        retry_failed: bool = False,
        progress: bool = True,
    ) -> None:
        """Prepare a run.

        Args:
          work: what is explained, checked.
          store: where it goes; rows that it has are not computed again.
          pools: side -> patches of that side.
          retry_failed: compute failed rows again, and those of empty images.
          progress: show a bar.
        """
        self._work, self._store, self._progress_shown = work, store, progress
        self._pools = pools
        self._segmenter, self._mesh = work.bundle.segmenter, device_mesh()
        # On every device once, not with every batch.
        self._variables, pools = replicate((work.bundle.variables, pools), self._mesh)
        self._problems = {
            job.label: Problem(
                segmenter=self._segmenter,
                variables=self._variables,
                key=make_key(work.seed),
                pool=pools[job.explainer.patch_side] if "patches" in job.explainer.needs else None,
            )
            for job in work.jobs
        }
        self._explainers = {job.label: work.explainer_of(job) for job in work.jobs}
        self._jobs = {job.label: job for job in work.jobs}
        self._without_labels: list[str] = []
        self._queues: dict[_Key, list[Asked]] = defaultdict(list)
        self._shares: dict[_Key, float] = {}  # of a whole pass, in boxes
        self._kept = time.perf_counter()
        labels = list(self._jobs)
        self._times = Times(
            compute_seconds=dict.fromkeys(labels, 0.0), computed=dict.fromkeys(labels, 0)
        )
        plan = work.plan()
        # image position -> label -> pending rows
        self._pending: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for label, rows in plan.items():
            todo = store.pending(label)
            if retry_failed:
                again = (Status.FAILED, Status.EMPTY_IMAGE)
                failed = np.flatnonzero(np.isin(store.statuses(label), again))
                todo = np.union1d(todo, failed)
            for row in todo:
                self._pending[rows[row].image_index][label].append(int(row))
        # No larger than the plan: what only fills up a batch costs time too. (The plan, not what
        # is left of it: a sweep that was interrupted ends with the same batches' rounding.)
        size = min(work.batch_size, max(map(len, plan.values())))
        self._size = -(-max(1, size) // self._mesh.size) * self._mesh.size
        self._predict = Predictor(work, self._variables, self._mesh, self._size)
        self._classes = {label: [row.class_index for row in rows] for label, rows in plan.items()}

    def run(self) -> Times:
        """Explain what is pending."""
        positions = sorted(self._pending)
        total = sum(len(rows) for todo in self._pending.values() for rows in todo.values())
        self._times.num_images = len(positions)
        with progress_bar(
            total=total, unit="explanation", desc="explain", shown=self._progress_shown
        ) as self._progress:
            try:
                for group in read_ahead(self._work, positions, self._size):
                    self._take(group)
                for key in list(self._queues):
                    self._compute(key)
            finally:
                self._store.flush()
        self._times.compile_seconds += self._predict.compile_seconds
        if self._predict.effect_of_tiles:
            self._store.set_attribute("tiles", self._predict.effect_of_tiles)
        if self._without_labels:
            logging.getLogger(__name__).warning(
                f"{len(self._without_labels)} images are stored without their label maps, which "
                f"cannot be used (the first: {self._without_labels[0]})"
            )
        return self._times

    def _take(self, group: list[tuple[int, Item | JaxsegError]]) -> None:
        """Predict a group of images and queue their targets."""
        items = []
        for position, item in group:
            if isinstance(item, JaxsegError):
                self._fail_image(position, str(item), _status_of(item))
            else:
                items.append(item)
        for item, found in self._predict(items):
            if isinstance(found, JaxsegError):
                self._fail_image(item.position, f"{item.sample.id}: {found}")
            else:
                self._write_image(item, found[0])
                self._queue(item, *found)
        self._flush()

    def _flush(self) -> None:
        """Keep what was found, now and then: a killed process computes the rest again."""
        if time.perf_counter() - self._kept > _SECONDS:
            self._store.flush()
            self._kept = time.perf_counter()

    def _write_image(self, item: Item, prediction: np.ndarray) -> None:
        if self._work.keep_labels and item.sample.labels_error is not None:
            self._without_labels.append(str(item.sample.labels_error))
        image = StoredImage(
            id=item.sample.id,
            image=to_display(item.sample.image),
            labels=item.sample.labels,
            prediction=item.grid.back(prediction),
            affine=item.sample.affine,
        )
        self._store.write_image(item.position, image)

    def _queue(self, item: Item, prediction: np.ndarray, finite: bool) -> None:
        for label, rows in self._pending[item.position].items():
            job, explainer = self._jobs[label], self._explainers[label]
            try:
                reference = reference_in(self._work, job, explainer, self._pools, item.sample)
            except JaxsegError as error:
                for row in rows:
                    self._fail(label, row, str(error))
                continue
            for row in rows:
                class_index = self._classes[label][row]
                try:
                    asked = ask(
                        self._work,
                        job,
                        item,
                        prediction,
                        row=row,
                        class_index=class_index,
                        reference=reference,
                        block_side=explainer.block_side,
                    )
                except ConfigError as error:
                    self._fail(label, row, str(error))
                    continue
                if isinstance(asked, Status) or not finite:  # no lane is spent on nothing
                    status = asked if isinstance(asked, Status) and finite else Status.NON_FINITE
                    size = item.grid.prepared
                    pixels = explainer.meta.figure != "parts"
                    nothing = nothing_found(class_index, prediction, size, status, pixels=pixels)
                    self._write(label, row, item, *nothing)
                    continue
                shape = asked.item.image.shape
                key = (label, shape, self._box_side(label, shape, asked.target))
                self._queues[key].append(asked)
                if len(self._queues[key]) == self._size:
                    self._compute(key)
        # Images of many sizes wait in many queues: bound what is held in memory.
        while sum(map(len, self._queues.values())) > _MAX_WAITING * self._size:
            self._compute(max(self._queues, key=lambda key: len(self._queues[key])))

    def _box_side(self, label: str, shape: tuple[int, ...], target: SegmentTarget) -> int | None:
        """Side of a box around the region, where it makes a pass cheaper; None where not."""
        explainer, side = self._explainers[label], box_side(np.asarray(target.region))
        if side is None or explainer.in_box(side) is explainer:
            return None
        key = (label, shape, side)
        if key not in self._shares:
            with jax.enable_x64(False):
                share = explainer.in_box(side).window_share(self._segmenter, self._variables, shape)
            self._shares[key] = share
        return side if self._shares[key] < 1 else None

    def _compute(self, key: _Key) -> None:
        """Explain what is queued, filled up to the one batch size there is."""
        waiting, (label, shape, side) = self._queues.pop(key), key
        explainer, problem = self._explainers[label], self._problems[label]
        if side is not None:
            explainer = explainer.in_box(side)
        others: list[np.ndarray] = []
        if "others" in explainer.needs:
            waiting, others = self._with_others(label, waiting)
            if not waiting:
                return
        examples: dict[str, Any] = {
            "images": np.stack([one.item.image for one in waiting]),
            "targets": jax.tree.map(lambda *x: np.stack(x), *[one.target for one in waiting]),
            "image_ids": np.stack([image_id(one.item.sample.id) for one in waiting]),
            "groups": np.stack([image_id(one.item.sample.belongs_to) for one in waiting]),
        }
        if others:
            examples["others"] = np.stack(others)
        if self._segmenter.input.pads:
            sizes = [one.item.grid.resized for one in waiting]
            examples["sizes"] = np.array(sizes, np.int32)
        dealt, which = deal_batch(examples, self._size, self._mesh)
        batch = Batch(**dealt, valid=which < len(waiting))
        try:
            if explainer.traceable:
                run = self._compile(lower, explainer, problem, batch)
                start = time.perf_counter()
                found = jax.device_get(run(explainer, problem, batch))
            else:  # compiles its own programs
                start = time.perf_counter()
                found = jax.device_get(explain(explainer, problem, batch, mesh=self._mesh))
        except JaxsegError as error:  # of this size: the method was tried on another
            for one in waiting:
                self._fail(label, one.row, f"{one.item.sample.id}: {error}")
            return
        seconds = time.perf_counter() - start
        self._times.compute_seconds[label] += seconds
        self._times.computed[label] += len(waiting)
        if description := explainer.describe(self._segmenter, self._variables, shape):
            self._store.set_description(label, description)
        for place, one in zip(np.argsort(which), waiting, strict=False):
            explanation = jax.tree.map(lambda leaf, place=place: leaf[place], found)
            share = seconds / len(waiting)
            self._write(label, one.row, one.item, explanation, one.target, seconds=share)
        self._flush()

    def _with_others(
        self, label: str, waiting: list[Asked]
    ) -> tuple[list[Asked], list[np.ndarray]]:
        """Those for which there are other images, and these, float32 [N, *S, C] each."""
        source, spec = self._work.others or self._work.source, self._segmenter.input
        count, seed = self._explainers[label].num_others, self._work.seed
        kept, found = [], []
        for one in waiting:
            try:
                sample, grid = one.item.sample, one.item.grid
                tiled = isinstance(grid, Tile)
                size = grid.whole.prepared if tiled else grid.prepared
                others = read_others(source, spec, sample, size, count=count, seed=seed)
                found.append(others[:, *grid.place] if tiled else others)
                kept.append(one)
            except JaxsegError as error:
                self._fail(label, one.row, str(error))
        return kept, found

    def _write(
        self,
        label: str,
        row: int,
        item: Item,
        explanation: Explanation,
        target: SegmentTarget,
        *,
        seconds: float = 0.0,
    ) -> None:
        grid = item.grid
        if grid.changes:
            explanation, target = back(grid, explanation), back(grid, target)
        self._store.write(label, row, explanation, target, seconds=seconds)
        self._progress.update()

    def _compile(self, lower: Callable[..., Any], *arguments: Any, **static: Any) -> Callable:
        """Compile once per shape and process, timed apart from the computing."""
        run, seconds = compiled(lower, *arguments, mesh=self._mesh, **static)
        self._times.compile_seconds += seconds
        return run

    def _fail_image(self, position: int, reason: str, status: Status = Status.FAILED) -> None:
        for label, rows in self._pending[position].items():
            for row in rows:
                self._fail(label, row, reason, status)

    def _fail(self, label: str, row: int, reason: str, status: Status = Status.FAILED) -> None:
        self._store.fail(label, row, reason, status)
        self._progress.update()


def _status_of(error: JaxsegError) -> Status:
    """Of an image that cannot be explained."""
    return Status.EMPTY_IMAGE if isinstance(error, EmptyImageError) else Status.FAILED
