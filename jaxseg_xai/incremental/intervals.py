"""Which pixels can change, and which matter: intervals of one image axis, position by position.

Blocks and regions of interest have few possible positions, so that nothing is estimated: every
interval is an array over the positions, and the size of a window is the largest one that occurs.
"""

from fractions import Fraction
from typing import NamedTuple

import numpy as np

#: Of operations that do the same again every few pixels (up-sampling).
_LONGEST_PERIOD = 16


class Reach(NamedTuple):
    """What each output pixel of an operation reads, along one axis.

    Attributes:
      lo: int [out], first input pixel; may lie before the border (padding).
      hi: int [out], one past the last; may lie past the border; not above `lo` if it reads none.
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
        """Of the largest; at least one pixel, so that no array of a window is empty."""
        return int(max(1, np.max(self.hi - self.lo)))


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


def segment(size: int, *, first: int, count: int) -> Reach:
    """Output pixels from `first` on read `count` input pixels one by one; the others nothing."""
    lo = np.clip(np.arange(size) - first, 0, count)
    return Reach(lo, np.clip(lo + (np.arange(size) >= first), 0, count))


def changed(reach: Reach, dirty: Intervals) -> Intervals:
    """Output pixels that read one of the input pixels that can change."""
    reads = reach.hi > reach.lo
    touched = (reach.hi > dirty.lo[:, None]) & (reach.lo < dirty.hi[:, None]) & reads
    touched &= (dirty.hi > dirty.lo)[:, None]
    lo, hi = touched.argmax(1), touched.shape[1] - touched[:, ::-1].argmax(1)
    return Intervals(lo, np.where(touched.any(1), hi, lo))


def read(reach: Reach, needed: Intervals, size: int) -> Intervals:
    """Input pixels (of `size`) that the needed output pixels read."""
    empty = needed.hi <= needed.lo
    ends = np.stack([np.where(empty, 0, needed.lo), np.where(empty, 1, needed.hi)], 1).ravel()
    # `reduceat` reduces from each index to the next, and cannot end past the last element.
    lo = np.minimum.reduceat(np.append(reach.lo, reach.lo[-1]), ends)[::2]
    hi = np.maximum.reduceat(np.append(reach.hi, reach.hi[-1]), ends)[::2]
    lo, hi = np.clip(lo, 0, size), np.clip(hi, 0, size)
    return Intervals(np.where(empty, 0, lo), np.where(empty, 0, np.maximum(lo, hi)))


def frames(reach: Reach, window: int) -> Intervals:
    """What a window of `window` output pixels reads, for every pixel it can begin at."""
    over = np.lib.stride_tricks.sliding_window_view
    return Intervals(over(reach.lo, window).min(1), over(reach.hi, window).max(1))


def hull(a: Intervals | None, b: Intervals) -> Intervals:
    """The smallest intervals that hold both."""
    if a is None:
        return b
    lo = np.where(a.hi <= a.lo, b.lo, np.where(b.hi <= b.lo, a.lo, np.minimum(a.lo, b.lo)))
    hi = np.where(a.hi <= a.lo, b.hi, np.where(b.hi <= b.lo, a.hi, np.maximum(a.hi, b.hi)))
    return Intervals(lo, hi)


def common(a: Intervals, b: Intervals) -> Intervals:
    """What lies in both; one of them may have a single position, whatever the other's."""
    lo, hi = np.maximum(a.lo, b.lo), np.minimum(a.hi, b.hi)
    return Intervals(lo, np.maximum(lo, hi))


def aligned(intervals: Intervals, multiple: int, size: int) -> Intervals:
    """Grown, inside an axis of `size`, until all begin at multiples.

    Their lengths leave the same remainder as `size`, so that windows pushed back from the end of
    the axis begin at multiples too.
    """
    if multiple == 1:
        return intervals
    lo = intervals.lo // multiple * multiple
    length = intervals.hi - lo
    length += (size - length) % multiple
    empty = intervals.hi <= intervals.lo  # stays so: a padded row far from the block
    return Intervals(np.where(empty, 0, lo), np.where(empty, 0, lo + length))


def slope(reach: Reach) -> Fraction | None:
    """Input pixels per output pixel, about; None where it has none."""
    if period := _period(reach):
        return Fraction(period[1], period[0]) or None
    if len(reach.lo) < 2:
        return None
    rise = Fraction(int(reach.lo[-1] - reach.lo[0]), len(reach.lo) - 1)
    # Interpolations between corners: not quite a half.
    return rise.limit_denominator(4) or None


def extended(reach: Reach, before: int, after: int) -> Reach:
    """The reach of as many more output pixels on both sides, which lie outside the image.

    What repeats itself (strides, up-sampling by a number) goes on like that; else those pixels read
    what the nearest one does.
    """
    if not (found := _period(reach)):
        return Reach(*(np.pad(side, (before, after), mode="edge") for side in reach))
    (period, rise), count = found, len(reach.lo)
    pixel = np.arange(-before, count + after)
    # Whole periods by which a pixel is outside.
    lap = np.where(pixel < 0, pixel // period, np.maximum(pixel - count, -1) // period + 1)
    inside = pixel - lap * period
    return Reach(reach.lo[inside] + lap * rise, reach.hi[inside] + lap * rise)


def _period(reach: Reach) -> tuple[int, int] | None:
    """(output pixels, input pixels) after which a reach does the same again."""
    for period in range(1, min(_LONGEST_PERIOD, len(reach.lo) - 1) + 1):
        rises = np.concatenate([side[period:] - side[:-period] for side in reach])
        if (rises == rises[0]).all():
            return period, int(rises[0])
    return None


def starts(intervals: Intervals, size: int) -> np.ndarray:
    """Where a window as large as the largest interval begins, inside an axis of `size`."""
    return np.clip(intervals.lo, 0, size - intervals.size)
