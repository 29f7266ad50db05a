"""Reads a window's inputs: what was computed, over the activations of the unperturbed image."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.core.types import Array
from jaxseg_xai.incremental.plan import Plan, Window, Windows
from jaxseg_xai.incremental.reads import (
    Read,
    covers,
    filler_of,
    key_of,
    leaves,
    margins_of,
    offsets_between,
)
from jaxseg_xai.incremental.rules import Span, Spans
from jaxseg_xai.incremental.rules.base import shift

#: Axis -> [begin, end) of the pixels of a frame that its window holds.
_Overlap = Mapping[str, tuple[int, int]]
#: Axis -> first pixel of a frame, counted from the window that it is read from.
_Offsets = Mapping[str, jax.Array | int]


class Place(NamedTuple):
    """Where an intervention is.

    Attributes:
      block: int32 [rank], position of the block along each axis among those that blocks have.
      region: int32 [rank], first pixel of the box along each axis.
    """

    block: jax.Array
    region: jax.Array


class Nth(NamedTuple):
    """One of several activations of a shape, of which parts are read without a copy of the whole.

    Attributes:
      stack: [n, ...].
      number: int32 [], which one.
    """

    stack: jax.Array
    number: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one."""
        return self.stack.shape[1:]


#: A map of the unperturbed image.
Source = jax.Array | Nth


def part_of(source: Source, start: Sequence[Array | int], size: Sequence[int]) -> jax.Array:
    """`size` pixels of a source along each axis, from `start` on."""
    if isinstance(source, Nth):
        place = (source.number, *start)
        return lax.dynamic_slice(source.stack, place, (1, *size))[0]
    return lax.dynamic_slice(source, start, size, allow_negative_indices=False)


class Reader:
    """Reads frames at one place.

    Args:
      plan: of the program.
      place: of block and region.
    """

    def __init__(self, plan: Plan, place: Place) -> None:
        self.plan = plan
        self.position = {
            of: {axis: position[d] for d, axis in enumerate(plan.axes)}
            for of, position in (("block", place.block), ("region", place.region))
        }
        # Programs have thousands of windows, but they begin at few different places.
        self._starts: dict[tuple[str, str, bytes], jax.Array] = {}

    def spans(self, windows: Windows) -> Spans:
        """Where windows are."""
        return {
            axis: Span(self._start(w, axis), w.size, int(w.start.min()), int(w.start.max()))
            for axis, w in windows.items()
        }

    def surroundings(
        self, sources: Mapping[str, Source], value: int, windows: Windows, read: Read
    ) -> list[jax.Array]:
        """What a frame holds besides the window: strips around it, or (where it moves) all of it.

        Args:
          sources: activations by `key_of`, with the borders that `margins_of` tells.
          value: that is read.
          windows: of it that are computed.
          read: what is read of it.
        """
        box = {axis: (0, frame.size) for axis, frame in read.frames.items()}
        overlap = _overlaps(self.plan, windows, read.frames)
        if overlap is None:
            uncovered = [a for a in box if not covers(windows[a], read.frames[a])]
            return [self._cut(sources, value, read, box)] if uncovered else []
        strips = []
        for axis, (begin, end) in overlap.items():
            for strip in ((0, begin), (end, read.frames[axis].size - end)):
                if strip[1]:
                    strips.append(self._cut(sources, value, read, box | {axis: strip}))
            box[axis] = (begin, end - begin)
        return strips

    def read(
        self, value: int, local: Array, windows: Windows, read: Read, around: Sequence[jax.Array]
    ) -> jax.Array:
        """What is read of a value whose windows hold `local`, with its `surroundings`."""
        frames, sizes = read.frames, self.plan.sizes(value)
        offsets = {axis: self._offset(windows[axis], frames[axis], axis) for axis in sizes}
        # Here the frame shows what the window holds outside the image.
        showing = [
            axis
            for axis in read.outward
            if leaves(windows[axis], sizes[axis]) and leaves(frames[axis], sizes[axis])
        ]
        filler = filler_of(read.outside, local.dtype)
        if (overlap := _overlaps(self.plan, windows, frames)) is not None:
            masks = [self._in_image(value, frames, axis, overlap[axis]) for axis in showing]
            local = self._cropped(value, local, overlap, offsets)
            local = jnp.where(_all(masks), local, filler) if masks else local
            return self._framed(value, local, frames, overlap, around)
        background = around[0] if around else filler
        masks = [self._in_image(value, frames, axis) for axis in showing]
        traced = [axis for axis, offset in offsets.items() if not isinstance(offset, int)]
        if around and traced and not any(np.ptp(frames[axis].start) for axis in traced):
            found = self._pasted(value, local, background, windows, frames, offsets)
        else:
            found = self._shifted(value, local, windows, frames, offsets)
            masks += [
                self._in_window(value, windows, frames, offsets, axis)
                for axis in sizes
                if not covers(windows[axis], frames[axis])
            ]
        return jnp.where(_all(masks), found, background) if masks else found

    def _cropped(self, value: int, local: Array, overlap: _Overlap, offsets: _Offsets) -> jax.Array:
        """The part of the window that lies in the frame."""
        for axis, (begin, end) in overlap.items():
            offset = offsets[axis]
            assert isinstance(offset, int)
            d = self.plan.dims[value].index(axis)
            local = lax.slice_in_dim(local, offset + begin, offset + end, axis=d)
        return jnp.asarray(local)

    def _framed(
        self,
        value: int,
        local: jax.Array,
        frames: Windows,
        overlap: _Overlap,
        strips: Sequence[jax.Array],
    ) -> jax.Array:
        """The strips around what the window holds: the last ones cut are the innermost."""
        rest = list(strips)
        for axis, (begin, end) in reversed(list(overlap.items())):
            after = [rest.pop()] if end < frames[axis].size else []
            before = [rest.pop()] if begin else []
            parts = [
                jnp.broadcast_to(strip, (local.shape[0], *strip.shape[1:]))
                if self.plan.dims[value][0] is None
                else strip
                for strip in (*before, *after)
            ]
            parts.insert(len(before), local)
            local = lax.concatenate(parts, self.plan.dims[value].index(axis))
        return local

    def _start(self, window: Window, axis: str) -> jax.Array | int:
        if not np.ptp(window.start):
            return int(window.start[0])
        key = (window.of, axis, window.start.tobytes())
        if key not in self._starts:
            self._starts[key] = _at(window.start, self.position[window.of][axis])
        return self._starts[key]

    def _offset(self, local: Window, frame: Window, axis: str) -> jax.Array | int:
        differences = offsets_between(local, frame)
        if not np.ptp(differences):
            return int(differences.min())
        return self._start(frame, axis) - self._start(local, axis)

    def _along(self, value: int, axis: str, mask: Array) -> Array:
        """A mask of one axis, to be broadcast over the others."""
        return mask.reshape([-1 if own == axis else 1 for own in self.plan.dims[value]])

    def _in_image(
        self, value: int, frames: Windows, axis: str, part: tuple[int, int] | None = None
    ) -> Array:
        """Which pixels of a frame, or of a part of it, lie in the image."""
        begin, end = part or (0, frames[axis].size)
        pixel = np.arange(begin, end) + self._start(frames[axis], axis)
        return self._along(value, axis, (pixel >= 0) & (pixel < self.plan.sizes(value)[axis]))

    def _in_window(
        self, value: int, windows: Windows, frames: Windows, offsets: _Offsets, axis: str
    ) -> Array:
        pixel = np.arange(frames[axis].size) + offsets[axis]
        return self._along(value, axis, (pixel >= 0) & (pixel < windows[axis].size))

    def _shifted(
        self, value: int, local: Array, windows: Windows, frames: Windows, offsets: _Offsets
    ) -> jax.Array:
        """The frame as far as the window holds it, with zeros around."""
        for axis, offset in offsets.items():
            differences = offsets_between(windows[axis], frames[axis])
            bounds = (int(differences.min()), int(differences.max()))
            d = self.plan.dims[value].index(axis)
            local = shift(local, d, offset, frames[axis].size, bounds)
        return jnp.asarray(local)

    def _pasted(
        self,
        value: int,
        local: Array,
        background: jax.Array,
        windows: Windows,
        frames: Windows,
        offsets: _Offsets,
    ) -> jax.Array:
        """The window put into a frame that stays where it is: one write, at traced indices."""
        margins, corner = [(0, 0)] * local.ndim, [jnp.int32(0)] * local.ndim
        shape = list(local.shape)
        for axis, offset in offsets.items():
            differences = offsets_between(windows[axis], frames[axis])
            d, side = self.plan.dims[value].index(axis), frames[axis].size
            # What leaves the frame is cut off again.
            before = max(0, int(differences.max()))
            after = max(0, windows[axis].size - int(differences.min()) - side)
            margins[d], shape[d] = (before, after), before + side + after
            corner[d] = jnp.asarray(before - offset, jnp.int32)
        canvas = jnp.broadcast_to(jnp.pad(background, margins), shape)
        canvas = lax.dynamic_update_slice(canvas, local, corner, allow_negative_indices=False)
        low = [before for before, _ in margins]
        high = [n - after for n, (_, after) in zip(shape, margins, strict=True)]
        return lax.slice(canvas, low, high)

    def _cut(
        self,
        sources: Mapping[str, Source],
        value: int,
        read: Read,
        box: Mapping[str, tuple[int, int]],
    ) -> jax.Array:
        """(begin, size) along each axis of a frame, of the unperturbed image."""
        dims, source = self.plan.dims[value], sources[key_of(value, read.outside)]
        margins = margins_of(self.plan)[value, read.outside]
        start, size = [jnp.int32(0)] * len(dims), list(source.shape)
        for axis, (begin, extent) in box.items():
            d, first = dims.index(axis), self._start(read.frames[axis], axis)
            start[d] = jnp.asarray(first + margins[axis][0] + begin, jnp.int32)
            size[d] = extent
        return part_of(source, start, size)


def _at(starts: np.ndarray, position: jax.Array) -> jax.Array:
    """`starts[position]`: by arithmetic where they are evenly spaced."""
    step = int(starts[1] - starts[0])
    if (np.diff(starts) == step).all():
        return step * position + int(starts[0])
    table = jnp.asarray(starts, jnp.int32)
    return lax.dynamic_index_in_dim(table, position, keepdims=False, allow_negative_indices=False)


def _overlaps(plan: Plan, windows: Windows, frames: Windows) -> _Overlap | None:
    """Which pixels of frames lie in windows; None where that depends on the place."""
    found = {}
    for axis, frame in frames.items():
        offsets = offsets_between(windows[axis], frame)
        offset = int(offsets.min())
        begin, end = max(0, -offset), min(frame.size, windows[axis].size - offset)
        if not plan.anchored or np.ptp(offsets) or end <= begin:
            return None
        found[axis] = (begin, end)
    return found


def _all(masks: Sequence[Array]) -> Array:
    return functools.reduce(lambda a, b: a & b, masks)
