"""A plan as a table that a person reads."""

import collections
import dataclasses
import math
from typing import TYPE_CHECKING

from jaxseg_xai.incremental.positions import times
from jaxseg_xai.program.costs import uncounted_in

if TYPE_CHECKING:
    from jaxseg_xai.incremental.plan import Plan, Step

#: Shown for short.
_OPERATIONS = {
    "conv_general_dilated": "convolution",
    "dot_general": "product",
    "reduce_window_max": "max pooling",
    "reduce_window_sum": "sum pooling",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One layer.

    Attributes:
      layer: path of its weights; empty where it has none.
      operation: what it does.
      size: sides of its whole output; None where it has no image axes left.
      window: sides of what is computed of it.
      follows: what each side of the window follows: "block", "region", or "all" of the output.
      dense_flops: of a forward pass.
      flops: of an intervention.
      note: why it has no window, or that it mixes all positions; mostly empty.
    """

    layer: str
    operation: str
    size: tuple[int, ...] | None
    window: tuple[int, ...] | None
    follows: tuple[str, ...]
    dense_flops: int
    flops: int
    note: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanTable:
    """What an intervention costs, layer by layer; `str` shows it.

    Attributes:
      title: sizes of image, block and region.
      rows: layers that cost something (convolutions, products), or that have no window.
      dense_flops: of a forward pass.
      flops: of an intervention.
      reaching: share of the pairs of block and region, all positions alike, in which the block can
        change the region at all; the others cost nothing.
      uncounted: primitives whose cost is missing in all FLOPs, and how often they occur.
    """

    title: str
    rows: tuple[PlanRow, ...]
    dense_flops: int
    flops: int
    reaching: float
    uncounted: dict[str, int]

    @property
    def ratio(self) -> float:
        """How many times fewer FLOPs an intervention has than a forward pass."""
        return self.dense_flops / self.flops if self.flops else math.nan

    def __str__(self) -> str:
        head = ("layer", "operation", "output", "window", "follows", "MFLOP", "of dense", "share")
        cells = [head, *map(_cells, self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [self.title, ""]
        for row in cells:
            pairs = list(zip(row, widths, strict=True))
            texts = [text.ljust(n) for text, n in pairs[:5]] + [t.rjust(n) for t, n in pairs[5:]]
            lines.append("  ".join(texts).rstrip())
        ratio = f": {self.ratio:.3g} times fewer" if self.flops else ""
        lines += [
            "",
            f"An intervention: {_mega(self.flops)} MFLOP; a forward pass: "
            f"{_mega(self.dense_flops)} MFLOP{ratio} (convolutions and products only).",
            f"{self.reaching:.1%} of all pairs of a block and a region need one; in the others the "
            "block cannot change the region.",
        ]
        notes = collections.Counter(row.note for row in self.rows if row.note)
        if notes:
            lines += ["", "Computed whole:"]
            lines += [f"  {count} x {note}" for note, count in notes.items()]
        if self.uncounted:
            names = ", ".join(f"{name} ({count})" for name, count in self.uncounted.items())
            lines += ["", f"Cost not counted: {names}."]
        return "\n".join(lines)


def make_table(plan: "Plan") -> PlanTable:
    """The table of a plan."""
    uncounted: collections.Counter[str] = collections.Counter()
    for step in plan.steps:
        uncounted.update(uncounted_in(step.equation.primitive.name, step.equation.params))
    image, block, region = map(times, (plan.image_shape, plan.block, plan.region))
    return PlanTable(
        title=(
            f"Image {image}, blocks {block}, region {region}, "
            f"{plan.num_patches} interventions at a time"
        ),
        rows=tuple(row for row in (_row(plan, step) for step in plan.steps) if row),
        dense_flops=plan.dense_flops,
        flops=plan.flops,
        reaching=math.prod(float(reaches.mean()) for reaches in plan.reaches.values()),
        uncounted=dict(uncounted),
    )


def _row(plan: "Plan", step: "Step") -> PlanRow | None:
    note = _note(plan, step)
    if not step.dense_flops and not note:
        return None
    out = step.equation.outputs[0]
    sizes = zip(plan.dims[out], plan.program.shapes[out].shape, strict=True)
    whole = {axis: size for axis, size in sizes if axis}
    windows = {axis: step.window[axis] for axis in sorted(whole, reverse=True)}  # z, y, x
    name = str(step.equation.primitive.name)
    return PlanRow(
        layer=step.equation.name.removesuffix("/kernel").removesuffix("/weight"),
        operation="interpolation" if step.rule.contracted else _OPERATIONS.get(name, name),
        size=tuple(whole[axis] for axis in windows) or None,
        window=tuple(window.size for window in windows.values()) or None,
        follows=tuple("all" if w.size == whole[a] else w.of for a, w in windows.items()),
        dense_flops=step.dense_flops,
        flops=step.flops,
        note=note,
    )


def _note(plan: "Plan", step: "Step") -> str:
    """Why all of a map is computed or read here where windows went in."""
    name = step.equation.primitive.name
    inputs = zip(step.equation.inputs, step.rule.reach, strict=True)
    mixed = set()
    for atom, reach in inputs:
        if isinstance(atom, int) and atom in plan.program.of_image:
            sizes = zip(plan.dims[atom], plan.program.shapes[atom].shape, strict=True)
            mixed |= {axis for axis, size in sizes if axis and axis not in reach and size > 1}
    if not mixed:
        return ""
    return (
        step.rule.why_dense or f"{name} over all {' and '.join(_WORDS[a] for a in sorted(mixed))}"
    )


_WORDS = {"x": "columns", "y": "rows", "z": "slices"}


def _cells(row: PlanRow) -> tuple[str, ...]:
    follows = row.follows if len(set(row.follows)) > 1 else row.follows[:1]
    share = f"{row.flops / row.dense_flops:.1%}" if row.dense_flops else ""
    return (
        row.layer or "-",
        row.operation,
        times(row.size or ()) or "-",
        times(row.window or ()) or "-",
        ", ".join(follows) or "all",
        _mega(row.flops) if row.dense_flops else "",
        _mega(row.dense_flops) if row.dense_flops else "",
        share + (f"  whole: {row.note}" if row.note else ""),
    )


def _mega(flops: int) -> str:
    return f"{flops / 1e6:.2f}"
