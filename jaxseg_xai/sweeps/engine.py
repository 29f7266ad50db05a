"""Runs a sweep into a store: reads, predicts, batches by size, explains, writes what it finds."""

import logging
import time
from collections import defaultdict

import jax
import numpy as np

from jaxseg_xai.core.display import to_display
from jaxseg_xai.core.errors import ConfigError, EmptyImageError, JaxsegError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.devices.mesh import device_mesh, replicate
from jaxseg_xai.explainers import Problem
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.ops.random import make_key
from jaxseg_xai.store import Store, StoredImage
from jaxseg_xai.sweeps.asked import ask, box_side, others_for, reference_in
from jaxseg_xai.sweeps.batches import Batches, Result, Task
from jaxseg_xai.sweeps.items import Item, read_ahead
from jaxseg_xai.sweeps.live import Live
from jaxseg_xai.sweeps.predictor import Predictor, Started
from jaxseg_xai.sweeps.results import back, nothing_found
from jaxseg_xai.sweeps.times import Times
from jaxseg_xai.sweeps.work import Work

#: What the examples of a batch have in common: label, shape of the image, and side of a box around
#: the region where one is known.
_Key = tuple[str, tuple[int, ...], int | None]

#: Explanations that may wait for others of their size, in batches.
_MAX_WAITING = 8
#: What a killed process loses at most, beside the batch that it computes.
_SECONDS = 5.0


def batch_size(work: Work) -> int:
    """Explanations at a time, over all devices, as many on each.

    No more than the plan has: what only fills up a batch costs time too. (The plan, not what is
    left of it: a sweep that was interrupted ends with the same batches' rounding.)
    """
    devices = device_mesh().size
    size = max(1, min(work.batch_size, len(work.chosen) * len(work.classes)))
    return -(-size // devices) * devices


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
        size: int | None = None,
    ) -> None:
        """Prepare a run.

        Args:
          work: what is explained, checked.
          store: where it goes; rows that it has are not computed again.
          pools: side -> patches of that side.
          retry_failed: compute failed rows again, and those of empty images.
          progress: show a bar.
          size: explanations at a time, a multiple of the number of devices; None: `batch_size`.
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
        self._shares: dict[_Key, float | None] = {}  # of a whole pass, in boxes
        self._computed: set[_Key] = set()
        self._kept = time.perf_counter()
        labels = list(self._jobs)
        self._times = Times(
            compute_seconds=dict.fromkeys(labels, 0.0), computed=dict.fromkeys(labels, 0)
        )
        plan, self._retry_failed = work.plan(), retry_failed
        self._images = {
            label: np.array([row.image_index for row in rows]) for label, rows in plan.items()
        }
        self._size = batch_size(work) if size is None else size
        self._batches = Batches(self._mesh, self._size, pads=self._segmenter.input.pads)
        self._predict = Predictor(work, self._variables, self._mesh, self._size)
        self._classes = {label: [row.class_index for row in rows] for label, rows in plan.items()}

    def run(self, store: Store | None = None, images: range | None = None) -> Times:
        """Explain what is pending; who calls closes the store.

        Args:
          store: where it goes from here on; None: where it went.
          images: of which images; None: of all.
        """
        self._store, self._queues = store or self._store, defaultdict(list)
        self._pending = self._rows_of(images)
        positions = sorted(self._pending)
        total = sum(len(rows) for todo in self._pending.values() for rows in todo.values())
        self._times.num_images += len(positions)
        self._batches.drop()
        with Live(total, run=self._store.run, shown=self._progress_shown) as self._live:
            try:
                # What the model segments in the next images is computed before the explanations of
                # these, so that the devices never wait for what is asked of an image.
                group, predicted = [], []
                for following in read_ahead(self._work, positions, self._size):
                    started = self._predict.start(_usable(following))
                    self._take(group, predicted)
                    group, predicted = following, started
                self._take(group, predicted)
                for key in list(self._queues):
                    self._compute(key)
                for result in self._batches.finish():
                    self._keep(result)
            except BaseException:
                self._store.flush()
                raise
        self._times.compile_seconds = self._predict.compile_seconds + self._batches.compile_seconds
        self._times.num_programs = len(self._computed)
        if self._predict.effect_of_tiles:
            self._store.set_attribute("tiles", self._predict.effect_of_tiles)
        if self._without_labels:
            logging.getLogger(__name__).warning(
                f"{len(self._without_labels)} images are stored without their label maps, which "
                f"cannot be used (the first: {self._without_labels[0]})"
            )
        return self._times

    @property
    def times(self) -> Times:
        """Where the time went so far."""
        return self._times

    def pending(self) -> list[int]:
        """Positions of the images that are to be explained."""
        return sorted(self._rows_of(None))

    def _rows_of(self, images: range | None) -> dict[int, dict[str, list[int]]]:
        """Position of an image -> label -> rows to explain."""
        found: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for label, positions in self._images.items():
            rows = rows_to_explain(self._store, label, retry_failed=self._retry_failed)
            if images is not None:
                rows = rows[(images.start <= positions[rows]) & (positions[rows] < images.stop)]
            for row in rows:
                found[int(positions[row])][label].append(int(row))
        return found

    def _take(self, group: list[tuple[int, Item | JaxsegError]], predicted: list[Started]) -> None:
        """Queue the targets of a group of images whose prediction was started."""
        for position, item in group:
            if isinstance(item, JaxsegError):
                self._fail_image(position, str(item), _status_of(item))
        for item, found in self._predict.finish(predicted):
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
            stamp=item.stamp,
            content=item.content,
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
                if len(self._queues[key]) >= self._batches.size_for(key):
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
        share = self._shares[key]
        return side if share is not None and share < 1 else None

    def _compute(self, key: _Key) -> None:
        """Explain what is queued, filled up to the one batch size there is."""
        waiting, (label, _, side) = self._queues.pop(key), key
        self._computed.add(key)
        explainer, problem = self._explainers[label], self._problems[label]
        if side is not None:
            explainer = explainer.in_box(side)
        others: list[np.ndarray] = []
        if "others" in explainer.needs:
            known, waiting = waiting, []
            for one in known:
                try:
                    others.append(others_for(self._work, explainer, one))
                    waiting.append(one)
                except JaxsegError as error:
                    self._fail(label, one.row, str(error))
            if not waiting:
                return
        task = Task(
            key=key,
            label=label,
            explainer=explainer,
            problem=problem,
            asked=waiting,
            others=others,
        )
        compiled = self._batches.compile_seconds
        results = self._batches.start(task)
        self._live.compiled(self._batches.compile_seconds - compiled)
        for result in results:
            self._keep(result)

    def _keep(self, result: Result) -> None:
        """Write what came of a batch."""
        task, found, seconds = result.task, result.found, result.seconds
        label = task.label
        if isinstance(found, JaxsegError):
            for one in task.asked:
                self._fail(label, one.row, f"{one.item.sample.id}: {found}")
            return
        self._times.compute_seconds[label] += seconds
        self._times.computed[label] += len(found)
        shape = task.asked[0].item.image.shape
        if description := task.explainer.describe(self._segmenter, self._variables, shape):
            self._store.set_description(label, description)
        for one, explanation in zip(task.asked, found, strict=True):
            share = seconds / len(found)
            self._write(label, one.row, one.item, explanation, one.target, seconds=share)
        self._live.batch(label, len(found), seconds)
        self._flush()

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
        self._live.done(label, row, Status(int(explanation.status)))

    def _fail_image(self, position: int, reason: str, status: Status = Status.FAILED) -> None:
        for label, rows in self._pending[position].items():
            for row in rows:
                self._fail(label, row, reason, status)

    def _fail(self, label: str, row: int, reason: str, status: Status = Status.FAILED) -> None:
        self._store.fail(label, row, reason, status)
        self._live.done(label, row, status, reason)


def _usable(group: list[tuple[int, Item | JaxsegError]]) -> list[Item]:
    return [item for _, item in group if not isinstance(item, JaxsegError)]


def rows_to_explain(store: Store, label: str, *, retry_failed: bool) -> np.ndarray:
    """Rows that are pending, int [P], ascending; `retry_failed`: and those without a result."""
    todo = store.pending(label)
    if retry_failed:
        again = (Status.FAILED, Status.EMPTY_IMAGE)
        failed = np.flatnonzero(np.isin(store.statuses(label), again))
        todo = np.union1d(todo, failed)
    return todo


def _status_of(error: JaxsegError) -> Status:
    """Of an image that cannot be explained."""
    return Status.EMPTY_IMAGE if isinstance(error, EmptyImageError) else Status.FAILED
