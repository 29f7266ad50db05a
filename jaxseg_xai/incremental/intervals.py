"""Which pixels can change, and which matter: intervals of one image axis, position by position.

Blocks and regions of interest have few possible positions, so that nothing is estimated: every
interval is an array over the positions, and the size of a window is the largest one that occurs.
"""

from typing import NamedTuple

import numpy as np


class Reach(NamedTuple):
    """What each output pixel of an operation reads, along one axis.

    Attributes:
      lo: int [out], first input pixel; not decreasing; may lie before the border (padding).
      hi: int [out], one past the last; not decreasing; may lie past the border.
    """

    lo: np.ndarray
    hi: np.ndarray


class Intervals(NamedTuple):
    """Half-open pixel intervals of one axis; empty where hi <= lo.

    Attributes:
      lo: int [positions].
      hi: int [positions].
    """

    lo: np.ndarray
    hi: np.ndarray

    @property
    def size(self) -> int:
        """Of the largest."""
        return int(max(0, np.max(self.hi - self.lo)))


def same(size: int) -> Reach:
    """Every output pixel reads the input pixel in its place."""
    pixel = np.arange(size)
    return Reach(pixel, pixel + 1)


def strided(size: int, *, first: int, stride: int, extent: int) -> Reach:
    """Output pixel o reads `extent` input pixels from first + o stride."""
    lo = first + stride * np.arange(size)
    return Reach(lo, lo + extent)


def whole(size: int, positions: int) -> Intervals:
    """All of an axis, whatever the position."""
    return Intervals(np.zeros(positions, int), np.full(positions, size))


def changed(reach: Reach, dirty: Intervals) -> Intervals:
    """Output pixels that read one of the input pixels that can change."""
    lo = np.searchsorted(reach.hi, dirty.lo, side="right")
    hi = np.searchsorted(reach.lo, dirty.hi, side="left")
    empty = dirty.hi <= dirty.lo
    return Intervals(np.where(empty, 0, lo), np.where(empty, 0, hi))


def read(reach: Reach, needed: Intervals, size: int) -> Intervals:
    """Input pixels (of `size`) that the needed output pixels read."""
    empty = needed.hi <= needed.lo
    lo = reach.lo[np.where(empty, 0, needed.lo)]
    hi = reach.hi[np.where(empty, 0, needed.hi - 1)]
    lo, hi = np.clip(lo, 0, size), np.clip(hi, 0, size)
    return Intervals(np.where(empty, 0, lo), np.where(empty, 0, np.maximum(lo, hi)))


def hull(a: Intervals | None, b: Intervals) -> Intervals:
    """The smallest intervals that hold both."""
    if a is None:
        return b
    lo = np.where(a.hi <= a.lo, b.lo, np.where(b.hi <= b.lo, a.lo, np.minimum(a.lo, b.lo)))
    hi = np.where(a.hi <= a.lo, b.hi, np.where(b.hi <= b.lo, a.hi, np.maximum(a.hi, b.hi)))
    return Intervals(lo, hi)


def aligned(intervals: Intervals, multiple: int) -> Intervals:
    """Grown until they begin and end at multiples."""
    if multiple == 1:
        return intervals
    return Intervals(intervals.lo // multiple * multiple, -(-intervals.hi // multiple) * multiple)


def starts(intervals: Intervals, size: int) -> np.ndarray:
    """Where a window as large as the largest interval begins, inside an axis of `size`."""
    return np.clip(intervals.lo, 0, size - intervals.size)
