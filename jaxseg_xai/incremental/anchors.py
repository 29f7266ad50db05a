"""Windows at a fixed distance from the block, so that what is read of them needs no indices.

A window that is pushed back from the image's border lies elsewhere relative to the block there than
in the middle, and every read of it has to look where it is. An anchored window leaves the image
instead: a block at pixel p has its window of a map at `scale * p + distance`, wherever p is.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np

from jaxseg_xai.incremental.intervals import Intervals, slope


class Anchors:
    """How the windows of values move with the block.

    Any scale is correct; with a good one (pixels of the value per pixel of the image) windows are
    small.
    """

    def __init__(self, image: int, blocks: Mapping[str, np.ndarray]) -> None:
        self._blocks = blocks
        self._scale = {(image, axis): Fraction(1) for axis in blocks}
        self._align = {(image, axis): 1 for axis in blocks}

    def add(
        self,
        value: int,
        sizes: Mapping[str, int],
        align: Mapping[str, int],
        inputs: Iterable[tuple[int, Mapping]],
    ) -> None:
        """Take the scale of a value from what it is made of.

        Args:
          value: its number.
          sizes: axis -> its size.
          align: axis -> its windows begin at, and are, multiples of this.
          inputs: operands that depend on the image, with their reach.
        """
        inputs = list(inputs)
        for axis in sizes:
            self._align[value, axis] = align.get(axis, 1)
            for atom, reach in inputs:
                if axis in reach and (atom, axis) in self._scale:
                    rise = slope(reach[axis])
                    if rise is not None:
                        self._scale[value, axis] = self._scale[atom, axis] / rise
                        break

    def window(
        self, value: int, axis: str, pixels: Intervals, size: int
    ) -> tuple[np.ndarray, int] | None:
        """(starts, size) of a window of a value that holds the pixels, block by block.

        All of the axis if it would not be smaller; None if it cannot keep its distance.
        """
        scale, multiple = self._scale.get((value, axis)), self._align.get((value, axis), 1)
        filled = pixels.hi > pixels.lo
        if scale is None or not filled.any():
            return None
        anchors = self._blocks[axis] * scale.numerator
        if (anchors % (scale.denominator * multiple)).any():
            return None
        anchors //= scale.denominator
        first = int(np.min((pixels.lo - anchors)[filled])) // multiple * multiple
        last = int(np.max((pixels.hi - anchors)[filled]))
        extent = -(-(last - first) // multiple) * multiple
        if extent >= size:
            return np.zeros(len(anchors), int), size
        return anchors + first, extent
