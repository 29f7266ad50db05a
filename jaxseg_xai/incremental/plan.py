"""A plan: which windows of which layers an intervention on a block makes necessary to compute."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from jaxseg_xai.incremental.rules import Dims, Rule
from jaxseg_xai.incremental.table import PlanTable, make_table
from jaxseg_xai.program.trace import Equation, Program

#: Axes that have windows: those of an image [H, W, C], and of a volume [D, H, W, C].
AXES = {2: ("y", "x"), 3: ("z", "y", "x")}
#: Share of a forward pass's FLOPs from which windows do not pay for what is moved around them.
_WHOLE = 0.9


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
      window: of its outputs.
      frames: per operand the windows that it is read in; None for those read as they are.
      flops: of one intervention, in this window.
      dense_flops: of one intervention, of the whole map.
    """

    equation: Equation
    rule: Rule
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
      image_shape: (*S, C).
      block: sides of a block.
      block_starts: axis -> int [positions], first pixels of the blocks.
      region: sides of the box whose logits come out.
      region_starts: axis -> int [positions], first pixels of the box.
      region_follows: "region" if the box can be at any of them, "block" if it is where that is.
      anchored: whether windows keep their distance from the block where they can.
      dims: value -> image axes of its dimensions.
      windows: value -> its windows.
      steps: the equations that depend on the image.
      reaches: axis -> bool [block positions, region positions], whether a block can change it.
      needs: axis -> first, and one past the last, input pixel that the region reads at each of its
        positions, int [region positions] each; without the axes of which it reads all.
    """

    program: Program
    base: Program
    image_shape: tuple[int, ...]
    block: tuple[int, ...]
    block_starts: Mapping[str, np.ndarray]
    region: tuple[int, ...]
    region_starts: Mapping[str, np.ndarray]
    region_follows: str
    anchored: bool
    dims: Mapping[int, Dims]
    windows: Mapping[int, Windows]
    steps: tuple[Step, ...]
    reaches: Mapping[str, np.ndarray]
    needs: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of S, in order."""
        return AXES[len(self.image_shape) - 1]

    @property
    def flops(self) -> int:
        """Of one intervention, convolutions and matrix products only."""
        return sum(step.flops for step in self.steps)

    @property
    def dense_flops(self) -> int:
        """Of one forward pass, convolutions and matrix products only."""
        return sum(step.dense_flops for step in self.steps)

    @property
    def share(self) -> float:
        """`flops / dense_flops`: about 1 where the model mixes all positions, or has no FLOPs."""
        return self.flops / self.dense_flops if self.dense_flops else 1.0

    @property
    def num_patches(self) -> int:
        """Interventions that are evaluated at once."""
        return self.program.shapes[self.program.image].shape[0]

    def sizes(self, value: int) -> dict[str, int]:
        """Axis of the image -> pixels of a whole value along it."""
        pairs = zip(self.dims[value], self.program.shapes[value].shape, strict=True)
        return {axis: size for axis, size in pairs if axis}

    @property
    def saves_nothing(self) -> bool:
        """Whether the whole model does as well: everything reaches everything, layer by layer."""
        reached = all(reaches.all() for reaches in self.reaches.values())
        return reached and self.flops > _WHOLE * self.dense_flops

    @property
    def window_bytes(self) -> int:
        """Of all windows of one intervention together: an upper bound of what it needs."""
        return sum(map(self._bytes, self.windows))

    @property
    def largest_window_bytes(self) -> int:
        """Of the largest window of one intervention."""
        return max(map(self._bytes, self.windows))

    def _bytes(self, value: int) -> int:
        """Of a value's windows of one intervention; of all of it, what is no window."""
        shape, windows = self.program.shapes[value], self.windows[value]
        sizes = [
            windows[axis].size if axis else n
            for axis, n in zip(self.dims[value], shape.shape, strict=True)
        ]
        return math.prod(sizes) * shape.dtype.itemsize // self.num_patches

    @property
    def output_windows(self) -> Windows:
        """What is read of the logits: the region, and all of what is not aligned with the image."""
        logits, windows = self.program.logits, {}
        for d, axis in enumerate(self.dims[logits]):
            n = self.program.shapes[logits].shape[d]
            if axis and self.follows_image(d):
                start, side = self.region_starts[axis], self.region[d - 1]
                windows[axis] = Window(self.region_follows, start, side)
            elif axis:
                windows[axis] = Window("region", np.zeros(1, int), n)
        return windows

    def follows_image(self, d: int) -> bool:
        """Whether dimension d of the logits has windows of the image's axis in that place."""
        axis = self.dims[self.program.logits][d]
        return axis is not None and axis == (None, *self.axes, None)[d]

    @property
    def block_windows(self) -> Windows:
        """Where patches go; the last may end past the border."""
        sides = zip(self.axes, self.block, strict=True)
        return {axis: Window("block", self.block_starts[axis], side) for axis, side in sides}

    def table(self) -> PlanTable:
        """What a person wants to know."""
        return make_table(self)

    def __str__(self) -> str:
        return str(self.table())
