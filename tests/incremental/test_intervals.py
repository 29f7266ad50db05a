"""Interval arithmetic against counting pixel by pixel."""

from fractions import Fraction

import numpy as np
import pytest

from jaxseg_xai.incremental import intervals
from jaxseg_xai.incremental.intervals import Intervals, Reach


def some_reach(seed, size=12):
    """Sliding windows, segments, flips, and pixels at random; some that read nothing."""
    rng = np.random.default_rng(seed)
    out = int(rng.integers(1, 15))
    match seed % 4:
        case 0:
            first, stride, extent = rng.integers(-4, 4), rng.integers(1, 4), rng.integers(1, 6)
            return intervals.strided(out, first=first, stride=stride, extent=extent)
        case 1:
            count = int(rng.integers(1, size))
            return intervals.segment(out, first=int(rng.integers(0, out)), count=count)
        case 2:
            pixel = size - 1 - np.arange(size)
            return Reach(pixel, pixel + 1)
        case _:
            lo = rng.integers(0, size, size=out)
            return Reach(lo, lo + rng.integers(0, 4, size=out))


def some_intervals(seed, size, positions=9):
    rng = np.random.default_rng(seed)
    lo = rng.integers(0, size, size=positions)
    hi = np.minimum(lo + rng.integers(0, 5, size=positions), size)
    return Intervals(lo, hi)


def hull_of(pixels):
    return (min(pixels), max(pixels) + 1) if pixels else None


def pairs(found):
    return [(lo, hi) if hi > lo else None for lo, hi in zip(*found, strict=True)]


@pytest.mark.parametrize("seed", range(24))
def test_changed_is_the_hull_of_the_pixels_that_read_a_dirty_one(seed):
    reach, dirty = some_reach(seed), some_intervals(seed + 1, 12)
    expected = []
    for lo, hi in zip(*dirty, strict=True):
        reads = [range(a, b) for a, b in zip(*reach, strict=True)]
        expected.append(hull_of([o for o, r in enumerate(reads) if any(lo <= i < hi for i in r)]))
    assert pairs(intervals.changed(reach, dirty)) == expected


@pytest.mark.parametrize("seed", range(24))
def test_read_holds_all_pixels_that_needed_ones_read(seed):
    reach = some_reach(seed)
    needed = some_intervals(seed + 1, len(reach.lo))
    found = intervals.read(reach, needed, 12)
    for (lo, hi), a, b in zip(zip(*needed, strict=True), *found, strict=True):
        reads = {i for o in range(lo, hi) for i in range(reach.lo[o], reach.hi[o]) if 0 <= i < 12}
        assert reads <= set(range(a, b))
        assert 0 <= a <= b <= 12
        if seed % 4 != 3:  # what reads pixels here and there is enclosed, not listed
            assert hull_of(reads) == ((a, b) if b > a else None)


@pytest.mark.parametrize("seed", range(8))
def test_frames_of_windows(seed):
    reach = some_reach(seed)
    for window in range(1, len(reach.lo) + 1):
        found = intervals.frames(reach, window)
        assert len(found.lo) == len(reach.lo) - window + 1
        for start, (lo, hi) in enumerate(zip(*found, strict=True)):
            part = slice(start, start + window)
            assert (lo, hi) == (reach.lo[part].min(), reach.hi[part].max())


@pytest.mark.parametrize("size", [1, 2, 5, 12, 13])
@pytest.mark.parametrize("multiple", [1, 2, 3])
def test_aligned_windows_begin_at_multiples_inside_the_axis(size, multiple):
    for seed in range(6):
        before = some_intervals(seed, size)
        found = intervals.aligned(before, multiple, size)
        start, n = intervals.starts(found, size), found.size
        assert (start % multiple == 0).all()
        assert (start >= 0).all()
        assert (start + n <= size).all()
        held = (before.hi <= before.lo) | ((start <= before.lo) & (before.hi <= start + n))
        assert held.all()
        assert n < np.max(before.hi - before.lo) + 2 * multiple + 1


def test_hull_ignores_what_is_empty():
    a = Intervals(np.array([3, 5, 0, 2]), np.array([4, 5, 0, 6]))
    b = Intervals(np.array([6, 1, 7, 9]), np.array([8, 2, 7, 9]))
    assert pairs(intervals.hull(a, b)) == [(3, 8), (1, 2), None, (2, 6)]
    assert pairs(intervals.hull(None, b)) == pairs(b)


@pytest.mark.parametrize("stride", [-1, 1, 2])
@pytest.mark.parametrize("repeat", [1, 2, 3])
def test_what_repeats_itself_goes_on_outside_the_image(stride, repeat):
    lo = np.arange(-12, 30) // repeat * stride
    wide = Reach(lo, lo + 3)
    found = intervals.extended(Reach(wide.lo[12:-9], wide.hi[12:-9]), 12, 9)
    assert pairs(found) == pairs(wide)
    assert intervals.slope(wide) == Fraction(stride, repeat)


def test_elsewhere_pixels_outside_the_image_read_what_the_nearest_does():
    reach = Reach(np.array([0, 3, 4]), np.array([2, 4, 9]))
    found = intervals.extended(reach, 2, 1)
    assert pairs(found) == [(0, 2), (0, 2), (0, 2), (3, 4), (4, 9), (4, 9)]
