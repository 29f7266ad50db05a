"""Where a change goes: what blocks change of every layer, and what regions need of it."""

from collections.abc import Iterator, Mapping

import numpy as np

from jaxseg_xai.incremental import intervals
from jaxseg_xai.incremental.anchors import Anchors
from jaxseg_xai.incremental.intervals import Intervals
from jaxseg_xai.incremental.rules import Dims, Operand, Rule, dense, rule_of
from jaxseg_xai.program.trace import Atom, Equation, Program


class Flow:
    """What blocks change of every value of a model, and what regions need of it.

    Attributes:
      program: the model for as many images as are evaluated at once.
      region: sides of the box.
      axes: of space.
      blocks: axis -> int [positions], first pixels of the blocks.
      regions: the same of the box.
      follows: "region" if the box can be anywhere, "block" if it is where that is.
      dims: value -> image axes of its dimensions.
      dirty: value -> axis -> pixels that a block can change, by its position.
      needed: value -> axis -> pixels that a region needs, by its position.
      rules: the equations that depend on the image, with the rule of each.
      anchors: how windows move with the block, where all of them follow it; or None.
    """

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
        self.program, self._why_whole = program, why_whole
        self.region = region or block
        self._merged = {
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

    def run(self) -> None:
        """Follow the blocks forward through the model, and the region back."""
        for equation in self.program.equations:
            if any(out in self.program.of_image for out in equation.outputs):
                self._forward(equation)
        self._need_region()
        for equation, rule in reversed(self.rules):
            self._backward(equation, rule)

    def sizes(self, value: int) -> dict[str, int]:
        """Axis -> pixels of a whole value along it."""
        pairs = zip(self.dims[value], self.program.shapes[value].shape, strict=True)
        return {axis: size for axis, size in pairs if axis}

    def operand(self, atom: Atom) -> Operand:
        """What a rule is told of an operand."""
        if not isinstance(atom, int):
            shape = np.shape(atom)
            return Operand(shape, (None,) * len(shape), False, np.asarray(atom))
        shape = self.program.shapes[atom].shape
        of_image = atom in self.program.of_image
        return Operand(shape, self.dims[atom] if of_image else (None,) * len(shape), of_image)

    def _rule(self, equation: Equation) -> Rule:
        operands = tuple(self.operand(atom) for atom in equation.inputs)
        shapes = [self.program.shapes[out].shape for out in equation.outputs]
        if self._why_whole:
            return dense(equation, operands, shapes, self.axes, self._why_whole)
        if not self._merged.intersection(equation.outputs):
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
            for axis, size in self.sizes(out).items():
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
                self.anchors.add(out, self.sizes(out), rule.align, self._inputs(equation, rule))

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
            for axis, size in self.sizes(out).items():
                needed = intervals.whole(size, len(self.regions[axis]))
                if not rule.why_dense:
                    needed = shared.get(axis, needed)
                self.needed[out][axis] = intervals.aligned(needed, rule.align.get(axis, 1), size)
        for atom, reach in self._inputs(equation, rule):
            mine = self.needed.setdefault(atom, {})
            for axis, size in self.sizes(atom).items():
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


def _merges_batch(one: tuple[int, ...], several: tuple[int, ...]) -> bool:
    """Whether a dimension holds the batch and something else."""
    return any(a not in (1, b) for a, b in zip(one, several, strict=True))
