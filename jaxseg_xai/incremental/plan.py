"""What an intervention on a block makes necessary to compute, found before anything runs."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxseg_xai.incremental import intervals
from jaxseg_xai.incremental.intervals import Intervals
from jaxseg_xai.incremental.rules import Operand, Rule, rule_of
from jaxseg_xai.incremental.trace import Atom, Equation, Program, trace
from jaxseg_xai.types import Predict

AXES = ("y", "x")


@dataclasses.dataclass(frozen=True, eq=False)
class Window:
    """A window of one axis, of fixed size, whose start follows the block or the region.

    Attributes:
      of: "block" or "region", whichever it follows.
      start: int [positions of it].
      size: pixels.
    """

    of: str
    start: np.ndarray
    size: int


#: Axis -> its window.
Windows = Mapping[str, Window]


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """An equation of the model, evaluated in windows.

    Attributes:
      equation: with its primitive and parameters.
      rule: how to compute a window.
      operands: what goes in.
      window: of its outputs.
      frames: per operand the windows that it is read in; None for those read as they are.
      flops: of one intervention, in this window.
      dense_flops: of one intervention, of the whole map.
    """

    equation: Equation
    rule: Rule
    operands: tuple[Operand, ...]
    window: Windows
    frames: tuple[Windows | None, ...]
    flops: int
    dense_flops: int


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A windowed program; `evaluate.prepare` and `evaluate.intervene` run it.

    Attributes:
      program: the model for `num_patches` images at once.
      base: the model for one image; the same equations.
      image_shape: (H, W, C).
      block: (height, width) of a block.
      region: (height, width) of the box whose logits come out.
      dims: value -> image axes of its dimensions.
      windows: value -> its windows.
      steps: the equations that depend on the image.
      reaches: axis -> bool [block positions, region positions], whether a block can change it.
    """

    program: Program
    base: Program
    image_shape: tuple[int, int, int]
    block: tuple[int, int]
    region: tuple[int, int]
    dims: Mapping[int, tuple[str | None, ...]]
    windows: Mapping[int, Windows]
    steps: tuple[Step, ...]
    reaches: Mapping[str, np.ndarray]

    @property
    def flops(self) -> int:
        """Of one intervention, convolutions and matrix products only."""
        return sum(step.flops for step in self.steps)

    @property
    def dense_flops(self) -> int:
        """Of one forward pass, convolutions and matrix products only."""
        return sum(step.dense_flops for step in self.steps)

    @property
    def region_windows(self) -> Windows:
        """Where the logits are read."""
        sizes = zip(AXES, self.image_shape, self.region, strict=False)
        return {a: Window("region", np.arange(n - side + 1), side) for a, n, side in sizes}

    @property
    def block_windows(self) -> Windows:
        """Where patches go; the last may end past the border."""
        sizes = zip(AXES, self.image_shape, self.block, strict=False)
        return {a: Window("block", np.arange(0, n, side), side) for a, n, side in sizes}


def make_plan(
    predict: Predict,
    variables: Any,
    image_shape: tuple[int, int, int],
    *,
    block: tuple[int, int],
    region: tuple[int, int],
    num_patches: int,
    dtype: Any = np.float32,
) -> Plan:
    """Plan interventions on the blocks of an image, seen through a box.

    Args:
      predict: the model.
      variables: its weights, or their shapes.
      image_shape: (H, W, C).
      block: (height, width) of the blocks; the grid begins in the first corner and the last blocks
        may be cut off.
      region: (height, width) of the box in the output that matters, at any position.
      num_patches: interventions on one block that are evaluated at once.
      dtype: of images.
    """
    program = trace(predict, variables, (num_patches, *image_shape), dtype)
    base = trace(predict, variables, (1, *image_shape), dtype)
    if [e.primitive for e in program.equations] != [e.primitive for e in base.equations]:
        raise ValueError("the model computes something else for one image than for several")
    return _Planner(program, base, image_shape, block, region).plan()


class _Planner:
    def __init__(self, program, base, image_shape, block, region) -> None:
        self.program, self.base, self.image_shape = program, base, image_shape
        self.block, self.region = block, region
        sizes = list(zip(AXES, image_shape, block, region, strict=False))
        self.blocks = {a: np.arange(0, n, side) for a, n, side, _ in sizes}
        self.regions = {a: np.arange(n - side + 1) for a, n, _, side in sizes}
        self.dims: dict[int, tuple[str | None, ...]] = {program.image: (None, "y", "x", None)}
        self.dirty: dict[int, dict[str, Intervals]] = {program.image: {}}
        for axis, n, side, _ in sizes:
            start = self.blocks[axis]
            self.dirty[program.image][axis] = Intervals(start, np.minimum(start + side, n))
        self.needed: dict[int, dict[str, Intervals]] = {}
        self.rules: list[tuple[Equation, tuple[Operand, ...], Rule]] = []

    def plan(self) -> Plan:
        for equation in self.program.equations:
            if any(out in self.program.of_image for out in equation.outputs):
                self._forward(equation)
        self._need_region()
        for equation, operands, rule in reversed(self.rules):
            self._backward(equation, operands, rule)
        windows = {value: self._windows(value) for value in self.needed}
        logits = self.program.logits
        return Plan(
            program=self.program,
            base=self.base,
            image_shape=self.image_shape,
            block=self.block,
            region=self.region,
            dims=self.dims,
            windows=windows,
            steps=tuple(self._step(*entry, windows) for entry in self.rules),
            reaches={axis: self._reaches(logits, axis) for axis in AXES},
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

    def _forward(self, equation: Equation) -> None:
        operands = tuple(self._operand(atom) for atom in equation.inputs)
        shapes = [self.program.shapes[out].shape for out in equation.outputs]
        rule = rule_of(equation, operands, shapes)
        self.rules.append((equation, operands, rule))
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
                self.dirty[out][axis] = intervals.aligned(dirty, rule.align.get(axis, 1))

    def _inputs(self, equation: Equation, rule: Rule) -> Iterator[tuple[int, Mapping]]:
        """The operands that depend on the image, with their reach."""
        for atom, reach in zip(equation.inputs, rule.reach, strict=True):
            if isinstance(atom, int) and atom in self.program.of_image:
                yield atom, reach

    def _need_region(self) -> None:
        logits = self.program.logits
        if not isinstance(logits, int) or logits not in self.program.of_image:
            raise ValueError("the model's output does not depend on its input")
        self.needed[logits] = {}
        spatial = dict(zip(AXES, (1, 2), strict=True))
        for d, (axis, size) in enumerate(
            zip(self.dims[logits], self.program.shapes[logits].shape, strict=True)
        ):
            if axis is None:
                continue
            if spatial[axis] != d or size != self.image_shape[d - 1]:
                # Not aligned with the image: all of it, and the box is cut out at the end.
                self.needed[logits][axis] = intervals.whole(size, len(self.regions[axis]))
            else:
                start = self.regions[axis]
                side = self.region[d - 1]
                self.needed[logits][axis] = Intervals(start, start + side)

    def _backward(self, equation: Equation, operands: tuple[Operand, ...], rule: Rule) -> None:
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
                self.needed[out][axis] = intervals.aligned(needed, rule.align.get(axis, 1))
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
            if dirty.size <= needed.size:
                windows[axis] = Window("block", intervals.starts(dirty, size), dirty.size)
            else:
                windows[axis] = Window("region", intervals.starts(needed, size), needed.size)
        return windows

    def _step(self, equation, operands, rule: Rule, windows: Mapping[int, Windows]) -> Step:
        out = equation.outputs[0]
        window = windows[out]
        frames: list[Windows | None] = []
        for atom, operand, reach in zip(equation.inputs, operands, rule.reach, strict=True):
            if not operand.of_image:
                frames.append(None)
                continue
            frames.append(
                {
                    axis: self._frame(window[axis], reach[axis], size)
                    if axis in reach
                    else Window("block", np.zeros(len(self.blocks[axis]), int), size)
                    for axis, size in self._sizes(atom).items()
                }
            )
        elements = (
            int(np.prod(self.program.shapes[out].shape))
            // self.program.shapes[self.program.image].shape[0]
        )
        share = 1.0
        for axis, size in self._sizes(out).items():
            share *= window[axis].size / size
        return Step(
            equation=equation,
            rule=rule,
            operands=operands,
            window=window,
            frames=tuple(frames),
            flops=round(rule.flops * elements * share),
            dense_flops=rule.flops * elements,
        )

    def _frame(self, window: Window, reach: intervals.Reach, size: int) -> Window:
        """What a window reads of an input of `size`."""
        lo = reach.lo[window.start]
        hi = reach.hi[window.start + window.size - 1]
        frame = int(np.max(hi - lo))
        if np.ptp(hi - lo):  # an interpolation: more here, less there, never past the border
            lo = np.clip(lo, 0, size - frame)
        return Window(window.of, lo, frame)

    def _reaches(self, logits: int, axis: str) -> np.ndarray:
        if axis not in self.dirty[logits]:
            return np.ones((len(self.blocks[axis]), len(self.regions[axis])), bool)
        dirty, needed = self.dirty[logits][axis], self.needed[logits][axis]
        touching = (dirty.lo[:, None] < needed.hi) & (needed.lo < dirty.hi[:, None])
        return touching & (dirty.hi > dirty.lo)[:, None]


def shape_of(tree: Any) -> Any:
    """Shapes of a pytree of arrays."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
