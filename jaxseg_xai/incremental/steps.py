"""From what changes and what is needed of every layer to the windows that are computed of it."""

from collections.abc import Mapping

import numpy as np

from jaxseg_xai.incremental import intervals
from jaxseg_xai.incremental.flow import Flow
from jaxseg_xai.incremental.intervals import Intervals
from jaxseg_xai.incremental.plan import Step, Window, Windows
from jaxseg_xai.incremental.rules import Rule
from jaxseg_xai.program.costs import flops_of
from jaxseg_xai.program.trace import Atom, Equation

#: Share of an axis from which all of it is read for pixels that are far apart.
_MOSTLY = 0.75


def windows_of(flow: Flow, value: int) -> Windows:
    """The smaller one, axis by axis, of what blocks change of a value and regions need of it."""
    windows = {}
    for axis, size in flow.sizes(value).items():
        dirty, needed = flow.dirty[value][axis], flow.needed[value][axis]
        if flow.anchors:
            dirty = intervals.common(dirty, needed)
            found = flow.anchors.window(value, axis, dirty, size)
            windows[axis] = Window("block", *(found or (intervals.starts(dirty, size), dirty.size)))
        elif dirty.size <= needed.size:
            windows[axis] = Window("block", intervals.starts(dirty, size), dirty.size)
        else:
            windows[axis] = Window("region", intervals.starts(needed, size), needed.size)
    return windows


def step_of(flow: Flow, equation: Equation, rule: Rule, windows: Mapping[int, Windows]) -> Step:
    """An equation with the window of its outputs, and what that reads."""
    out = equation.outputs[0]
    window = windows[out]
    frames = tuple(
        _frames(flow, atom, rule, r, window)
        for atom, r in zip(equation.inputs, rule.reach, strict=True)
    )
    shapes = (
        [flow.operand(atom).shape for atom in equation.inputs],
        [flow.program.shapes[out].shape for out in equation.outputs],
    )
    images = flow.program.shapes[flow.program.image].shape[0]
    flops = flops_of(equation.primitive.name, equation.params, *shapes) // images
    share = 1.0
    for axis, size in flow.sizes(out).items():
        share *= window[axis].size / size
    for atom, frame in zip(equation.inputs, frames, strict=True):
        if rule.contracted and frame is not None:
            share *= frame[rule.contracted].size / flow.sizes(atom)[rule.contracted]
    return Step(
        equation=equation,
        rule=rule,
        window=window,
        frames=frames,
        flops=round(flops * share),
        dense_flops=flops,
    )


def _frames(flow: Flow, atom: Atom, rule: Rule, reach: Mapping, window: Windows) -> Windows | None:
    """What an output window reads of an input; None for what does not depend on the image."""
    if not isinstance(atom, int) or atom not in flow.program.of_image:
        return None
    frames = {}
    for axis, size in flow.sizes(atom).items():
        if axis not in reach:
            frames[axis] = Window("block", np.zeros(len(flow.blocks[axis]), int), size)
            continue
        start, extent = window[axis].start, window[axis].size
        if rule.pads and extent == len(reach[axis].lo):
            frames[axis] = Window(window[axis].of, np.zeros_like(start), size)
            continue
        before = max(0, -int(start.min()))
        after = max(0, int(start.max()) + extent - len(reach[axis].lo))
        found = intervals.frames(intervals.extended(reach[axis], before, after), extent)
        found = Intervals(found.lo[start + before], found.hi[start + before])
        lo, frame = found.lo, found.size
        apart = rule.taps.get(axis, frame) * extent < frame
        if apart and not flow.anchors and frame >= _MOSTLY * size:
            lo, frame = np.zeros_like(start), size
        if np.ptp(found.hi - found.lo):  # more here, less there (interpolations)
            anchored = flow.anchors and flow.anchors.window(atom, axis, found, size)
            # Never past the border.
            lo, frame = anchored or (np.clip(lo, 0, size - frame), frame)
        frames[axis] = Window(window[axis].of, lo, frame)
    return frames


def reaches_of(flow: Flow, axis: str) -> np.ndarray:
    """Which blocks can change which regions along an axis, bool [blocks, regions]."""
    logits = flow.program.logits
    if axis not in flow.dirty[logits]:
        return np.ones((len(flow.blocks[axis]), len(flow.regions[axis])), bool)
    dirty, needed = flow.dirty[logits][axis], flow.needed[logits][axis]
    touching = (dirty.lo[:, None] < needed.hi) & (needed.lo < dirty.hi[:, None])
    return touching & (dirty.hi > dirty.lo)[:, None]
