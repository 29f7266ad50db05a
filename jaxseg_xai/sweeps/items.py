"""Images of a sweep as they are read, ahead of what is explained."""

import dataclasses
import math
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.inputs import Grid, prepare
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.checks import read_item
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
    """

    position: int
    sample: Sample
    image: np.ndarray
    grid: Grid | Tile

    @property
    def num_pixels(self) -> int:
        """Of the prepared image."""
        return math.prod(self.grid.prepared)


def read_ahead(
    work: Work, positions: list[int], size: int
) -> Iterator[list[tuple[int, Item | JaxsegError]]]:
    """Images (or why one cannot be used), `size` at a time, the next ones read meanwhile.

    Large images come in smaller groups, so that not too many are in memory.
    """
    room, group, pixels = _Room(), [], 0
    # One thread: a source need not be safe to read from two.
    pool = ThreadPoolExecutor(1)
    try:
        rest = iter(positions)
        ahead = deque((n, pool.submit(_read, work, n, room)) for n in islice(rest, 2 * size))
        while ahead:
            position, future = ahead.popleft()
            item = future.result()
            ahead.extend((n, pool.submit(_read, work, n, room)) for n in islice(rest, 1))
            taken = item.num_pixels if isinstance(item, Item) else 0
            room.take(taken)
            group.append((position, item))
            pixels += taken
            if len(group) == size or pixels >= _MOST_PIXELS or not ahead:
                yield group
                group, pixels = [], 0
    finally:
        room.close()
        pool.shutdown(cancel_futures=True)


class _Room:
    """Makes the reader wait while there is much that nobody took yet."""

    def __init__(self) -> None:
        self._pixels, self._closed, self._changed = 0, False, threading.Condition()

    def wait(self) -> None:
        """Until there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._pixels < _MOST_PIXELS)

    def fill(self, pixels: int) -> None:
        """So many were read."""
        with self._changed:
            self._pixels += pixels

    def take(self, pixels: int) -> None:
        """So many were taken."""
        with self._changed:
            self._pixels -= pixels
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody waits any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _read(work: Work, position: int, room: _Room) -> Item | JaxsegError:
    room.wait()
    segmenter = work.bundle.segmenter
    try:
        sample = read_item(work.source, work.chosen[position])
        prepared = prepare(sample, segmenter.input)
    except JaxsegError as error:
        return error
    labels, wrong = None, None
    try:
        labels = as_planes(sample, segmenter.output, segmenter.input.rank)
    except JaxsegError as error:  # of who looks at them
        wrong = error
    sample = dataclasses.replace(sample, labels=labels, labels_error=wrong)
    item = Item(position=position, sample=sample, image=prepared.image, grid=prepared.grid)
    room.fill(item.num_pixels)
    return item
