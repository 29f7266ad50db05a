"""What a rule is: which input pixels an output window reads, and how to compute the window.

A rule says nothing about where windows are. `planner` finds those; `evaluate` reads the frames that
a rule asks for and calls its `apply`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.core.types import Array
from jaxseg_xai.incremental import intervals
from jaxseg_xai.incremental.intervals import Reach

#: Per dimension of an array: the image axis ("z", "y" or "x") whose window it follows, or None.
Dims = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class Operand:
    """An input of an equation.

    Attributes:
      shape: of the whole value.
      dims: image axes; all None for values that do not depend on the image.
      of_image: whether it depends on the image.
      constant: its value where that is known while tracing.
    """

    shape: tuple[int, ...]
    dims: Dims
    of_image: bool
    constant: np.ndarray | None = None

    def axes(self) -> set[str]:
        """The image axes it has."""
        return {axis for axis in self.dims if axis}


@dataclasses.dataclass(frozen=True)
class Span:
    """A window of one axis while evaluating.

    Attributes:
      start: int32 [], where it begins (traced, or known).
      size: how many pixels.
      first: the smallest start there is; negative where windows leave the image.
      last: the largest start there is.
    """

    start: Array | int
    size: int
    first: int
    last: int


#: Axis -> its span.
Spans = Mapping[str, Span]

#: Per operand where its frame is; None for those read as they are.
Reads = Sequence[Spans | None]


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """How to compute a window of an equation's outputs.

    Attributes:
      dims: of every output.
      reach: per input the axes that it is read in windows of; its other axes are read whole.
      apply: (frames of the image's operands and the other operands whole, axis -> output window,
        per operand the axis -> window of its frame) -> windows of the outputs. Windows may leave
        the image; what is computed there is never looked at.
      align: axis -> output windows begin at multiples of this.
      pads: whether `apply` puts the equation's own padding around where the window is all of an
        axis: then it wants all of its input's.
      taps: axis -> pixels, far apart, that an output pixel reads: where they are fewer than those
        between them, `apply` may be given all of the axis and picks them.
      outside: what the operation sees beyond the border of its input.
      contracted: axis of the image that is summed over, where only the frame takes part in it.
      why_dense: why it has no windows, or "".
    """

    dims: tuple[Dims, ...]
    reach: tuple[Mapping[str, Reach], ...]
    apply: Callable[[list[Array], Spans, "Reads"], Sequence[Array]]
    align: Mapping[str, int] = dataclasses.field(default_factory=dict)
    pads: bool = False
    taps: Mapping[str, int] = dataclasses.field(default_factory=dict)
    outside: float = 0.0
    contracted: str = ""
    why_dense: str = ""


class NoRuleError(Exception):
    """The equation has no windowed form; the message says why."""


def single(operands: Sequence[Operand]) -> Operand:
    """The first operand, if it alone depends on the image."""
    if not operands[0].of_image or any(operand.of_image for operand in operands[1:]):
        raise NoRuleError("not only its first operand depends on the image")
    return operands[0]


def identity(operand: Operand, axes: set[str]) -> dict[str, Reach]:
    """Every output pixel reads the operand's in its place, along `axes`."""
    sizes = zip(operand.dims, operand.shape, strict=True)
    return {axis: intervals.same(size) for axis, size in sizes if axis in axes}


def axes_of(dims: Sequence[str | None]) -> set[str]:
    """The image axes of an output; each may follow one dimension only."""
    axes = [axis for axis in dims if axis]
    if len(set(axes)) < len(axes):
        raise NoRuleError("one axis of the image in two dimensions")
    return set(axes)


def resized(shape: Sequence[int], dims: Dims, window: Spans) -> list[int]:
    """A shape with the sizes of windows in it."""
    return [window[axis].size if axis else n for n, axis in zip(shape, dims, strict=True)]


def cut(operand: Operand, frame: Array, dims: Sequence[str | None], window: Spans) -> Array:
    """The window of what was read whole (weights, positions, global features).

    Args:
      operand: the input.
      frame: what was read of it.
      dims: image axes of the output, dimension by dimension as in the operand.
      window: of the output.
    """
    if not operand.shape:
        return frame
    for d, (axis, own) in enumerate(zip(dims, operand.dims, strict=True)):
        if axis and own is None and operand.shape[d] > 1:
            # Outside the image nothing is looked at, but zeros could make NaNs of gradients there.
            frame = taken(frame, d, window[axis], mode="edge")
    return frame


def taken(whole: Array, d: int, span: Span, mode: Any = "constant") -> jax.Array:
    """A span along dimension d of what is known whole; outside of it zeros, or what mode says."""
    before, after = max(0, -span.first), max(0, span.last + span.size - whole.shape[d])
    if before or after:
        widths = [(before, after) if k == d else (0, 0) for k in range(np.ndim(whole))]
        # Constants are padded here and now, not in the program.
        pad = np.pad if isinstance(whole, np.ndarray) else jnp.pad
        whole = pad(whole, widths, mode=mode)
    return _slice(jnp.asarray(whole), span.start + before, span.size, d)


def shift(
    local: Array, d: int, offset: Array | int, size: int, bounds: tuple[int, int] | None = None
) -> jax.Array:
    """`size` pixels along dimension d from `offset`; zeros where there are none.

    Args:
      local: what is shifted.
      d: dimension.
      offset: first pixel.
      size: how many.
      bounds: the smallest and the largest offset there are, if known.
    """
    own = local.shape[d]
    config = [(0, 0, 0)] * local.ndim
    zero = jnp.zeros((), local.dtype)
    if isinstance(offset, int):
        config[d] = (-offset, offset + size - own, 0)
        return lax.pad(local, zero, config) if any(config[d]) else local
    first, last = bounds or (-size, own)
    before = max(0, min(size, -first))
    config[d] = (before, max(0, min(last, own) + size - own), 0)
    if first < -size or last > own:
        offset = jnp.clip(offset, -size, own)
    return _slice(lax.pad(local, zero, config), offset + before, size, d)


def _slice(whole: jax.Array, start: Array | int, size: int, d: int) -> jax.Array:
    # Without what JAX adds for negative indices: programs have many of these. A start that lies
    # outside (of pieces of `jnp.roll` far away) is clamped, and nobody reads what comes.
    return lax.dynamic_slice_in_dim(whole, start, size, d, allow_negative_indices=False)
