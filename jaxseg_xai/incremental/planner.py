"""Finds, before anything runs, which windows an intervention on a block makes necessary."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxseg_xai.core.types import Predict
from jaxseg_xai.incremental import intervals
from jaxseg_xai.incremental.anchors import Anchors
from jaxseg_xai.incremental.intervals import Intervals
from jaxseg_xai.incremental.plan import AXES, Plan, Step, Window, Windows
from jaxseg_xai.incremental.positions import block_starts, check_sizes, check_step
from jaxseg_xai.incremental.rules import Dims, Operand, Rule, dense, rule_of
from jaxseg_xai.program.batches import for_one_image
from jaxseg_xai.program.costs import flops_of
from jaxseg_xai.program.trace import Atom, Equation, Program, trace

#: Share of an axis from which all of it is read for pixels that are far apart.
_MOSTLY = 0.75


def make_plan(
    predict: Predict,
    variables: Any,
    image_shape: tuple[int, ...],
    *,
    block: tuple[int, ...],
    region: tuple[int, ...] | None,
    num_patches: int,
    block_step: tuple[int, ...] | None = None,
    dtype: Any = np.float32,
) -> Plan:
    """Plan interventions on the blocks of an image, seen through a box.

    Whatever has no windowed form is computed whole; `str(plan)` tells what, and why. Where the
    region is the whole output, or the block itself, every window follows the block, most at a fixed
    distance, so that programs hardly index: best where blocks begin at multiples of the model's
    stride.

    Args:
      predict: the model.
      variables: its weights, or their shapes.
      image_shape: (H, W, C), or (D, H, W, C) of volumes.
      block: sides of the blocks, one for every axis of space.
      region: sides of the box in the output that matters, at any position; None: what lies under
        the block (which needs a `block_step`).
      num_patches: interventions on one block that are evaluated at once.
      block_step: pixels along each axis from one block to the next, at most the block's size; the
        last blocks end at the border. Default: a grid of blocks side by side, the last ones cut
        off.
      dtype: of images.

    Raises:
      ConfigError: neither an image nor a volume; a size that is less than 1 or more than the
        image's, or a step that is less than 1 or more than the block's, or not one for every axis.
      ModelError: the model cannot be traced for images of this shape, or its output is no logits
        [B, *S, K] that depend on them.
    """
    check_sizes(image_shape, block, region or block, num_patches)
    check_step(block, block_step, region)
    axes = AXES[len(block)]

    def traced(count: int, whole: bool = False) -> Program:
        return trace(predict, variables, (count, *image_shape), dtype, whole=whole)

    program, base = traced(num_patches), traced(1)
    # What is merged with the batch shows in the shapes for several images.
    several = traced(2) if num_patches == 1 else program
    why = ""
    if _structure(several) != _structure(base):  # `jnp.matmul` leaves out batches of one
        base = for_one_image(base, traced(2), traced(3)) or base
        program = base if num_patches == 1 else program
    if any(_structure(other) != _structure(base) for other in (program, several)):
        why = "the model computes something else for one image than for several"
        program, base, several = (traced(count, whole=True) for count in (num_patches, 1, 2))
    steps = block_step or (None,) * len(axes)
    blocks = {
        axis: block_starts(n, side, step)
        for axis, n, side, step in zip(axes, image_shape, block, steps, strict=False)
    }
    return _Planner(program, base, several, image_shape, block, blocks, region, why).plan()


def _structure(program: Program) -> list[Any]:
    return [
        (equation.primitive, [len(program.shapes[out].shape) for out in equation.outputs])
        for equation in program.equations
    ]


class _Planner:
    def __init__(
        self,
        program: Program,
        base: Program,
        several: Program,
        image_shape: tuple[int, ...],
        block: tuple[int, ...],
        blocks: Mapping[str, np.ndarray],
        region: tuple[int, ...] | None,
        why_whole: str,
    ) -> None:
        self.program, self.base, self.image_shape = program, base, image_shape
        self.block, self.region, self.why_whole = block, region or block, why_whole
        self.merged = {
            mine
            for mine, one, more in zip(
                *(p.numbers() for p in (program, base, several)), strict=True
            )
            if _merges_batch(base.shapes[one].shape, several.shapes[more].shape)
        }
        self.axes = tuple(blocks)
        sizes = list(zip(self.axes, image_shape, block, self.region, strict=False))
        self.blocks, self.follows = blocks, "region" if region else "block"
        everywhere = {a: np.arange(n - side + 1) for a, n, _, side in sizes}
        self.regions = everywhere if region else blocks
        self.dims: dict[int, Dims] = {program.image: (None, *self.axes, None)}
        self.dirty: dict[int, dict[str, Intervals]] = {program.image: {}}
        for axis, n, side, _ in sizes:
            start = self.blocks[axis]
            self.dirty[program.image][axis] = Intervals(start, np.minimum(start + side, n))
        self.anchors: Anchors | None = None
        # Then all windows follow the block.
        if region is None or tuple(region) == tuple(image_shape[:-1]):
            self.anchors = Anchors(program.image, self.blocks)
        self.needed: dict[int, dict[str, Intervals]] = {}
        self.rules: list[tuple[Equation, Rule]] = []

    def plan(self) -> Plan:
        for equation in self.program.equations:
            if any(out in self.program.of_image for out in equation.outputs):
                self._forward(equation)
        self._need_region()
        for equation, rule in reversed(self.rules):
            self._backward(equation, rule)
        windows = {value: self._windows(value) for value in self.needed}
        return Plan(
            program=self.program,
            base=self.base,
            image_shape=self.image_shape,
            block=self.block,
            block_starts=self.blocks,
            region=self.region,
            region_starts=self.regions,
            region_follows=self.follows,
            anchored=self.anchors is not None,
            dims=self.dims,
            windows=windows,
            steps=tuple(self._step(*entry, windows) for entry in self.rules),
            reaches={axis: self._reaches(axis) for axis in self.axes},
            needs={
                axis: (needed.lo, needed.hi)
                for axis, needed in self.needed.get(self.program.image, {}).items()
            },
        )

    def _sizes(self, value: int) -> dict[str, int]:
        pairs = zip(self.dims[value], self.program.shapes[value].shape, strict=True)
        return {axis: size for axis, size in pairs if axis}

    def _operand(self, atom: Atom) -> Operand:
        if not isinstance(atom, int):
            shape = np.shape(atom)
            return Operand(shape, (None,) * len(shape), False, np.asarray(atom))
        shape = self.program.shapes[atom].shape
        of_image = atom in self.program.of_image
        return Operand(shape, self.dims[atom] if of_image else (None,) * len(shape), of_image)

    def _rule(self, equation: Equation) -> Rule:
        operands = tuple(self._operand(atom) for atom in equation.inputs)
        shapes = [self.program.shapes[out].shape for out in equation.outputs]
        if self.why_whole:
            return dense(equation, operands, shapes, self.axes, self.why_whole)
        if not self.merged.intersection(equation.outputs):
            return rule_of(equation, operands, shapes, self.axes)
        # Cached activations have a batch of one, which must be a dimension of its own.
        why = (
            ["it merges the batch with other dimensions"] if any(o.axes() for o in operands) else []
        )
        rule = dense(equation, operands, shapes, self.axes, *why)
        return Rule(**{**vars(rule), "dims": tuple((None,) * len(shape) for shape in shapes)})

    def _forward(self, equation: Equation) -> None:
        rule = self._rule(equation)
        self.rules.append((equation, rule))
        for out, dims in zip(equation.outputs, rule.dims, strict=True):
            self.dims[out] = dims
            self.dirty[out] = {}
            for axis, size in self._sizes(out).items():
                dirty: Intervals | None = None
                for atom, reach in self._inputs(equation, rule):
                    if axis in reach:
                        own = intervals.changed(reach[axis], self.dirty[atom][axis])
                    else:
                        own = intervals.whole(size, len(self.blocks[axis]))
                    dirty = intervals.hull(dirty, own)
                assert dirty is not None
                self.dirty[out][axis] = intervals.aligned(dirty, rule.align.get(axis, 1), size)
            if self.anchors:
                self.anchors.add(out, self._sizes(out), rule.align, self._inputs(equation, rule))

    def _inputs(self, equation: Equation, rule: Rule) -> Iterator[tuple[int, Mapping]]:
        """The operands that depend on the image, with their reach."""
        for atom, reach in zip(equation.inputs, rule.reach, strict=True):
            if isinstance(atom, int) and atom in self.program.of_image:
                yield atom, reach

    def _need_region(self) -> None:
        logits = self.program.logits
        self.needed[logits] = {}
        for d, axis in enumerate(self.dims[logits]):
            if axis is None:
                continue
            if axis == (None, *self.axes, None)[d]:
                start = self.regions[axis]
                self.needed[logits][axis] = Intervals(start, start + self.region[d - 1])
            else:  # another axis of the logits: all of it, and the box is cut out at the end
                size = self.program.shapes[logits].shape[d]
                self.needed[logits][axis] = intervals.whole(size, len(self.regions[axis]))

    def _backward(self, equation: Equation, rule: Rule) -> None:
        # All outputs of an equation share one window.
        shared: dict[str, Intervals] = {}
        for out in equation.outputs:
            for axis, needed in self.needed.get(out, {}).items():
                shared[axis] = intervals.hull(shared.get(axis), needed)
        for out in equation.outputs:
            self.needed[out] = {}
            for axis, size in self._sizes(out).items():
                needed = intervals.whole(size, len(self.regions[axis]))
                if not rule.why_dense:
                    needed = shared.get(axis, needed)
                self.needed[out][axis] = intervals.aligned(needed, rule.align.get(axis, 1), size)
        for atom, reach in self._inputs(equation, rule):
            mine = self.needed.setdefault(atom, {})
            for axis, size in self._sizes(atom).items():
                if axis in reach:
                    out = next(
                        out
                        for out, dims in zip(equation.outputs, rule.dims, strict=True)
                        if axis in dims
                    )
                    own = intervals.read(reach[axis], self.needed[out][axis], size)
                else:
                    own = intervals.whole(size, len(self.regions[axis]))
                mine[axis] = intervals.hull(mine.get(axis), own)

    def _windows(self, value: int) -> Windows:
        windows = {}
        for axis, size in self._sizes(value).items():
            dirty, needed = self.dirty[value][axis], self.needed[value][axis]
            if self.anchors:
                dirty = intervals.common(dirty, needed)
                found = self.anchors.window(value, axis, dirty, size)
                windows[axis] = Window(
                    "block", *(found or (intervals.starts(dirty, size), dirty.size))
                )
            elif dirty.size <= needed.size:
                windows[axis] = Window("block", intervals.starts(dirty, size), dirty.size)
            else:
                windows[axis] = Window("region", intervals.starts(needed, size), needed.size)
        return windows

    def _step(self, equation: Equation, rule: Rule, windows: Mapping[int, Windows]) -> Step:
        out = equation.outputs[0]
        window = windows[out]
        frames = tuple(
            self._frames(atom, rule, r, window)
            for atom, r in zip(equation.inputs, rule.reach, strict=True)
        )
        shapes = (
            [self._operand(atom).shape for atom in equation.inputs],
            [self.program.shapes[out].shape for out in equation.outputs],
        )
        images = self.program.shapes[self.program.image].shape[0]
        flops = flops_of(equation.primitive.name, equation.params, *shapes) // images
        share = 1.0
        for axis, size in self._sizes(out).items():
            share *= window[axis].size / size
        for atom, frame in zip(equation.inputs, frames, strict=True):
            if rule.contracted and frame is not None:
                share *= frame[rule.contracted].size / self._sizes(atom)[rule.contracted]
        return Step(
            equation=equation,
            rule=rule,
            window=window,
            frames=frames,
            flops=round(flops * share),
            dense_flops=flops,
        )

    def _frames(self, atom: Atom, rule: Rule, reach: Mapping, window: Windows) -> Windows | None:
        """What an output window reads of an input; None for what does not depend on the image."""
        if not isinstance(atom, int) or atom not in self.program.of_image:
            return None
        frames = {}
        for axis, size in self._sizes(atom).items():
            if axis not in reach:
                frames[axis] = Window("block", np.zeros(len(self.blocks[axis]), int), size)
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
            if apart and not self.anchors and frame >= _MOSTLY * size:
                lo, frame = np.zeros_like(start), size
            if np.ptp(found.hi - found.lo):  # more here, less there (interpolations)
                anchored = self.anchors and self.anchors.window(atom, axis, found, size)
                # Never past the border.
                lo, frame = anchored or (np.clip(lo, 0, size - frame), frame)
            frames[axis] = Window(window[axis].of, lo, frame)
        return frames

    def _reaches(self, axis: str) -> np.ndarray:
        logits = self.program.logits
        if axis not in self.dirty[logits]:
            return np.ones((len(self.blocks[axis]), len(self.regions[axis])), bool)
        dirty, needed = self.dirty[logits][axis], self.needed[logits][axis]
        touching = (dirty.lo[:, None] < needed.hi) & (needed.lo < dirty.hi[:, None])
        return touching & (dirty.hi > dirty.lo)[:, None]


def _merges_batch(one: tuple[int, ...], several: tuple[int, ...]) -> bool:
    """Whether a dimension holds the batch and something else."""
    return any(a not in (1, b) for a, b in zip(one, several, strict=True))
