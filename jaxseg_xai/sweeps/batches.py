"""Batches of explanations on the devices: one is computed while that before it is written."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.types import Explanation
from jaxseg_xai.devices.mesh import deal_batch
from jaxseg_xai.devices.programs import Programs
from jaxseg_xai.explainers import Batch, Explainer, Problem
from jaxseg_xai.explainers.runner import explain, lower
from jaxseg_xai.ops.random import image_id
from jaxseg_xai.sweeps.asked import Asked


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """Rows of one entry that are explained by one program.

    Attributes:
      key: of the program: whatever tells it from others of the run.
      label: of the entry.
      explainer: its method.
      problem: model, weights, key, patches.
      asked: the rows, at most as many as `Batches.size_for(key)`.
      others: other images float32 [N, *S, C] for each, where the method needs them.
    """

    key: Any
    label: str
    explainer: Explainer
    problem: Problem
    asked: Sequence[Asked]
    others: Sequence[np.ndarray] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a task.

    Attributes:
      task: as it was given.
      found: an explanation for each row, or why there is none.
      seconds: that the devices took.
    """

    task: Task
    found: Sequence[Explanation] | JaxsegError
    seconds: float


class _Running:
    """A task on the devices, and a thread that fetches what comes of it, all of it at once."""

    def __init__(self, task: Task, output: Any, which: np.ndarray, size: int, begin: float) -> None:
        self.task, self.size, self._output, self._which = task, size, output, which
        self._begin, self._error = begin, None
        self._seconds = 0.0
        # A daemon: a process that is told to end does not wait for it.
        self._thread = threading.Thread(target=self._fetch, daemon=True)
        self._thread.start()

    def result(self) -> Result:
        """Wait for it."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        leaves, structure = jax.tree.flatten(self._output)
        places = np.argsort(self._which)[: len(self.task.asked)]
        found = [jax.tree.unflatten(structure, [leaf[n] for leaf in leaves]) for n in places]
        return Result(task=self.task, found=found, seconds=self._seconds)

    def _fetch(self) -> None:
        try:
            self._output = jax.device_get(self._output)
        except Exception as error:
            self._error = error
        # Measured here, whatever else this process is busy with meanwhile.
        self._seconds = time.perf_counter() - self._begin


class Batches:
    """Explains tasks in their order.

    `start` gives the devices a task and returns the result of the one before, as soon as that is
    there: who writes it does so while the devices compute.

    Attributes:
      compile_seconds: spent compiling.
    """

    def __init__(self, mesh: Mesh, size: int, *, pads: bool) -> None:
        """Prepare.

        Args:
          mesh: the devices.
          size: rows at a time, a multiple of the mesh's size.
          pads: whether the model gets images that are padded, with their own sizes.
        """
        self._mesh, self._size, self._pads = mesh, size, pads
        self._running: _Running | None = None
        self._programs = Programs()
        #: Programs that did not fit into memory -> rows at a time that may.
        self._sizes: dict[Any, int] = {}
        self.compile_seconds = 0.0

    def size_for(self, key: Any) -> int:
        """Rows at a time, for a program."""
        return self._sizes.get(key, self._size)

    def start(self, task: Task) -> list[Result]:
        """Begin with a task; results of the one before."""
        size = self.size_for(task.key)
        if len(task.asked) > size:
            return self._in_parts(task, size)
        dealt, which = deal_batch(self._examples(task), size, self._mesh)
        batch = Batch(**dealt, valid=which < len(task.asked))
        run: Callable[..., Any] | None = None
        try:
            if task.explainer.traceable:
                given = (lower, task.explainer, task.problem, batch)
                run, seconds = self._programs.get((task.key, size), *given, mesh=self._mesh)
                self.compile_seconds += seconds
        except JaxsegError as error:  # of this size: the method was tried on another
            return [*self.finish(), Result(task=task, found=error, seconds=0.0)]
        # One task at a time has the memory of the devices.
        before, begin = self.finish(), time.perf_counter()
        try:
            if run is not None:
                output = run(task.explainer, task.problem, batch)
            else:  # compiles its own programs
                output = explain(task.explainer, task.problem, batch, mesh=self._mesh)
        except JaxsegError as error:
            return [*before, Result(task=task, found=error, seconds=0.0)]
        except jax.errors.JaxRuntimeError as error:
            return [*before, *self._smaller(task, size, error)]
        self._running = _Running(task, output, which, size, begin)
        return before

    def drop(self) -> None:
        """Forget the task that was begun last: an error ended what it was for."""
        self._running = None

    def finish(self) -> list[Result]:
        """Results of the task that was begun last, if it was not asked for."""
        running, self._running = self._running, None
        if running is None:
            return []
        try:
            return [running.result()]
        except jax.errors.JaxRuntimeError as error:
            return self._smaller(running.task, running.size, error)

    def _smaller(self, task: Task, size: int, error: Exception) -> list[Result]:
        """The same in smaller batches, where the memory was not enough; they stay as small."""
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        devices, known = self._mesh.size, self.size_for(task.key)
        smaller = min(known, size // devices // 2 * devices)
        if not smaller:
            reason = (
                f"out of memory with {size} explanations at a time, one a device; lower lanes or "
                "batch_size of the method, or take smaller images, and --retry-failed"
            )
            return [Result(task=task, found=JaxsegError(reason), seconds=0.0)]
        if smaller < known:
            logging.getLogger(__name__).warning(
                f"{task.label}: out of memory with {size} explanations at a time; {smaller} from "
                "here on"
            )
            self._sizes[task.key] = smaller
        return self._in_parts(task, smaller)

    def _in_parts(self, task: Task, size: int) -> list[Result]:
        """All results of a task of more rows than are explained at a time."""
        found = []
        for begin in range(0, len(task.asked), size):
            part = slice(begin, begin + size)
            some = dataclasses.replace(task, asked=task.asked[part], others=task.others[part])
            found += self.start(some)
        return found + self.finish()

    def _examples(self, task: Task) -> dict[str, Any]:
        asked = task.asked
        found: dict[str, Any] = {
            "images": np.stack([one.item.image for one in asked]),
            "targets": jax.tree.map(lambda *x: np.stack(x), *[one.target for one in asked]),
            "image_ids": np.stack([image_id(one.item.sample.id) for one in asked]),
            "groups": np.stack([image_id(one.item.sample.belongs_to) for one in asked]),
        }
        if task.others:
            found["others"] = np.stack(task.others)
        if self._pads:
            found["sizes"] = np.array([one.item.grid.resized for one in asked], np.int32)
        return found
