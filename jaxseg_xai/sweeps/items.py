"""The images of a sweep as they are read, ahead of what is explained."""

import dataclasses
import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import ConfigError, JaxsegError, reason_of
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import Grid, prepare
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.data.stamps import Stamps, content_of
from jaxseg_xai.sweeps.targets import as_planes
from jaxseg_xai.sweeps.tiles import Tile
from jaxseg_xai.sweeps.work import Work

#: Pixels that are read ahead, and of a group of images, unless one alone has more.
_MOST_PIXELS = 2**26


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """An image that was read: as its file has it, and as the model takes it.

    Attributes:
      position: of the image in the plan.
      sample: with its labels in the form of the model's predictions, or why they have none.
      image: prepared for the model, or a tile of that, float32 [*S, C].
      grid: how to get there and back.
      stamp: of its files, see `Stamps`.
      content: see `content_of`.
    """

    position: int
    sample: Sample
    image: np.ndarray
    grid: Grid | Tile
    stamp: str = ""
    content: str = ""

    @property
    def num_pixels(self) -> int:
        """Of the prepared image."""
        return math.prod(self.grid.prepared)


def read_ahead(
    work: Work, positions: list[int], size: int
) -> Iterator[list[tuple[int, Item | JaxsegError]]]:
    """Images (or why one cannot be used), `size` at a time, the next ones read meanwhile.

    Large images come in smaller groups, so that not too many are in memory.

    Raises:
      JaxsegError: the data set cannot be read by processes, or one of these died.
    """
    segmenter = work.bundle.segmenter
    read = _Read(work.source, segmenter.input, segmenter.output, Stamps(work.source))
    # A source need not be safe to read from two threads.
    pool = _processes(read, work.readers) if work.readers else ThreadPoolExecutor(1)
    ask = _read_there if work.readers else read
    ahead = _Ahead(
        lambda position: pool.submit(ask, position, work.chosen[position]),
        positions,
        most=2 * size,
        at_once=work.readers + 1,
    )
    group: list[tuple[int, Item | JaxsegError]] = []
    pixels = 0
    try:
        while (taken := ahead.pop()) is not None:
            group.append(taken)
            pixels += _pixels(taken[1])
            if len(group) == size or pixels >= _MOST_PIXELS:
                yield group
                group, pixels = [], 0
        if group:
            yield group
    except BrokenProcessPool as error:
        raise JaxsegError(
            "a process that reads images died, maybe out of memory; lower readers, and the same "
            "command continues"
        ) from error
    finally:
        ahead.close()
        pool.shutdown(cancel_futures=True)


@dataclasses.dataclass(frozen=True)
class _Read:
    """Reads an image and prepares it for the model."""

    source: Source
    input: InputSpec
    output: OutputSpec
    stamps: Stamps

    def __call__(self, position: int, index: int) -> Item | JaxsegError:
        stamp = self.stamps.of(index)
        try:
            sample = read_item(self.source, index)
            prepared = prepare(sample, self.input)
        except JaxsegError as error:
            return error
        content = content_of(sample)
        labels, wrong = None, None
        try:
            labels = as_planes(sample, self.output, self.input.rank)
        except JaxsegError as error:  # of who looks at them
            wrong = error
        sample = dataclasses.replace(sample, labels=labels, labels_error=wrong)
        return Item(
            position=position,
            sample=sample,
            image=prepared.image,
            grid=prepared.grid,
            stamp=stamp,
            content=content,
        )


class _Ahead:
    """What is asked of a pool, in order: while there is much that nobody took, nothing more."""

    def __init__(
        self,
        submit: Callable[[int], Future[Item | JaxsegError]],
        positions: list[int],
        *,
        most: int,
        at_once: int,
    ) -> None:
        self._submit, self._rest = submit, iter(positions)
        self._most, self._at_once = most, at_once
        self._asked: deque[tuple[int, Future[Item | JaxsegError]]] = deque()
        self._open, self._pixels, self._ended = 0, 0, False
        self._changed = threading.Condition()
        self._top_up()

    def pop(self) -> tuple[int, Item | JaxsegError] | None:
        """The next one, once it is read; None after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked or self._ended)
            if not self._asked:
                return None
            position, future = self._asked.popleft()
        found = future.result()
        with self._changed:
            self._pixels -= _pixels(found)
            self._top_up()
        return position, found

    def close(self) -> None:
        """Ask for no more."""
        with self._changed:
            self._ended = True

    def _top_up(self) -> None:
        with self._changed:
            while (
                not self._ended
                and len(self._asked) < self._most
                and self._open < self._at_once
                and self._pixels < _MOST_PIXELS
            ):
                position = next(self._rest, None)
                if position is None:
                    self._ended = True
                    break
                self._open += 1
                future = self._submit(position)
                self._asked.append((position, future))
                future.add_done_callback(self._read)
            self._changed.notify_all()

    def _read(self, future: Future[Item | JaxsegError]) -> None:
        with self._changed:
            self._open -= 1
            if not future.cancelled() and future.exception() is None:
                self._pixels += _pixels(future.result())
            self._top_up()


def _pixels(found: Item | JaxsegError) -> int:
    return found.num_pixels if isinstance(found, Item) else 0


def _processes(read: _Read, number: int) -> Executor:
    try:
        told = pickle.dumps(read)
    except Exception as error:  # whatever somebody's class says
        raise ConfigError(
            f"readers: the data set cannot be given to other processes ({reason_of(error)}); "
            "leave readers out"
        ) from error
    context = multiprocessing.get_context("spawn")  # a fork of what JAX runs in may hang
    return ProcessPoolExecutor(number, context, _begin, (told,))


#: In a process that reads: what it reads with.
_reader: list[_Read] = []


def _begin(told: bytes) -> None:
    """In a process that reads: it ends with the one that asks, and not by itself."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _reader.append(pickle.loads(told))


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _read_there(position: int, index: int) -> Item | JaxsegError:
    return _reader[0](position, index)
