"""Runs a plan: the unperturbed image once, then any number of interventions in their windows."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.incremental.plan import AXES, Plan, Window, Windows
from jaxseg_xai.incremental.rules import Dims, Span
from jaxseg_xai.incremental.rules.base import shift
from jaxseg_xai.incremental.trace import operand
from jaxseg_xai.types import Array

#: A value of the program, and what stands outside its border where it is read.
_Source = tuple[int, float]


class Prepared(NamedTuple):
    """What all interventions on one image share.

    Attributes:
      logits: float32 [H, W, K] of the unperturbed image.
      sources: activations that frames are filled up from, with their borders.
      weights: operands made from the weights alone.
    """

    logits: jax.Array
    sources: dict[str, jax.Array]
    weights: dict[int, jax.Array]


class Place(NamedTuple):
    """Where an intervention is.

    Attributes:
      block: int32 [2], row and column of the block in the grid.
      region: int32 [2], first row and column of the box in pixels.
    """

    block: jax.Array
    region: jax.Array


def prepare(plan: Plan, variables: Any, image: jax.Array) -> Prepared:
    """Run the model on the image [H, W, C] and keep what interventions read."""
    values = plan.base.run(variables, image[None])
    number = dict(zip(plan.program.numbers(), plan.base.numbers(), strict=True))
    sources = {}
    for (value, outside), margins in _sources(plan).items():
        dims = plan.dims[value]
        pads = [margins.get(axis, (0, 0)) if axis else (0, 0) for axis in dims]
        full = values[number[value]]
        filler = _filler(outside, full.dtype)
        sources[_key(value, outside)] = lax.pad(full, filler, [(lo, hi, 0) for lo, hi in pads])
    return Prepared(values[plan.base.logits][0], sources, operands_of(plan, variables))


def intervene(plan: Plan, prepared: Prepared, place: Place, patches: jax.Array) -> jax.Array:
    """The logits in the region when patches are put in the place of a block.

    Args:
      plan: from `make_plan`.
      prepared: from `prepare`, of the image.
      place: of the block and the region.
      patches: [P, bh, bw, C], P interventions on the same block.

    Returns:
      [P, h, w, K] logits in the box, as if the model had run on every changed image.
    """
    reader = _Reader(plan, prepared, place)
    image, logits = plan.program.image, plan.program.logits
    local = {
        image: reader.read(image, patches, plan.block_windows, plan.windows[image], outside=0.0)
    }
    for step in plan.steps:
        operands = [
            operand({**prepared.weights, **local}, atom)
            if frame is None
            else reader.read(atom, local[atom], plan.windows[atom], frame, step.rule.outside)
            for atom, frame in zip(step.equation.inputs, step.frames, strict=True)
        ]
        window = {axis: reader.span(own, axis) for axis, own in step.window.items()}
        found = step.rule.apply(operands, window)
        local.update(zip(step.equation.outputs, found, strict=True))
    found = reader.read(logits, local[logits], plan.windows[logits], plan.output_windows, 0.0)
    for d in (1, 2):
        if not plan.follows_image(d):
            found = lax.dynamic_slice_in_dim(found, place.region[d - 1], plan.region[d - 1], d)
    return found


class _Reader:
    """Reads frames: the computed window over the activations of the unperturbed image."""

    def __init__(self, plan: Plan, prepared: Prepared | None, place: Place) -> None:
        self.plan, self.prepared = plan, prepared
        self.position = {
            of: {axis: position[d] for d, axis in enumerate(AXES)}
            for of, position in (("block", place.block), ("region", place.region))
        }

    def span(self, window: Window, axis: str) -> Span:
        return Span(self._start(window, axis), window.size)

    def _start(self, window: Window, axis: str) -> jax.Array | int:
        if not np.ptp(window.start):
            return int(window.start[0])
        return jnp.asarray(window.start, jnp.int32)[self.position[window.of][axis]]

    def _offset(self, local: Window, frame: Window, axis: str) -> jax.Array | int:
        """First pixel of the frame, counted from the local window."""
        if fixed := _fixed_offset(local, frame):
            return fixed[0]
        return self._start(frame, axis) - self._start(local, axis)

    def read(
        self, value: int, local: Array, windows: Windows, frames: Windows, outside: float
    ) -> jax.Array:
        """The frame of a value whose windows hold `local`."""
        dims = self.plan.dims[value]
        covered = all(_covers(windows[axis], frames[axis]) for axis in frames)
        shifted, inside = local, []
        for d, axis in enumerate(dims):
            if axis is None:
                continue
            size = frames[axis].size
            offset = self._offset(windows[axis], frames[axis], axis)
            shifted = shift(shifted, d, offset, size)
            if not _covers(windows[axis], frames[axis]):
                pixel = jnp.arange(size) + offset
                mask = (pixel >= 0) & (pixel < windows[axis].size)
                inside.append(mask.reshape([-1 if k == d else 1 for k in range(len(dims))]))
        if covered:
            return shifted
        background = self._background(value, dims, frames, outside)
        mask = inside[0] if len(inside) == 1 else inside[0] & inside[1]
        return jnp.where(mask, shifted, background)

    def _background(self, value: int, dims: Dims, frames: Windows, outside: float) -> jax.Array:
        assert self.prepared is not None
        source = self.prepared.sources[_key(value, outside)]
        margins = _sources(self.plan)[value, outside]
        for d, axis in enumerate(dims):
            if axis is not None:
                start = self._start(frames[axis], axis) + margins[axis][0]
                source = lax.dynamic_slice_in_dim(source, start, frames[axis].size, d)
        return source


def _filler(outside: float, dtype: Any) -> jax.Array:
    """What stands outside the border, in a type that may have no infinity."""
    if np.isinf(outside) and jnp.issubdtype(dtype, jnp.integer):
        outside = jnp.iinfo(dtype).max if outside > 0 else jnp.iinfo(dtype).min
    return jnp.asarray(outside, dtype)


def _fixed_offset(local: Window, frame: Window) -> tuple[int] | None:
    """The offset of a frame in a window where it is the same at all positions."""
    differences = _offsets(local, frame)
    return (int(differences.min()),) if not np.ptp(differences) else None


def _offsets(local: Window, frame: Window) -> np.ndarray:
    if local.of == frame.of:
        return frame.start - local.start
    return frame.start[:, None] - local.start


def _covers(local: Window, frame: Window) -> bool:
    offsets = _offsets(local, frame)
    return bool(offsets.min() >= 0 and offsets.max() + frame.size <= local.size)


def _key(value: int, outside: float) -> str:
    return f"{value}:{outside}"


@functools.lru_cache(maxsize=8)
def _sources(plan: Plan) -> Mapping[_Source, dict[str, tuple[int, int]]]:
    """Values that frames are filled up from, and how far the frames leave the border."""
    found: dict[_Source, dict[str, tuple[int, int]]] = {}

    def note(value: int, windows: Windows, frames: Windows, outside: float) -> None:
        if all(_covers(windows[axis], frames[axis]) for axis in frames):
            return
        margins = found.setdefault((value, outside), {})
        sizes = zip(plan.dims[value], plan.program.shapes[value].shape, strict=True)
        for axis, size in sizes:
            if axis is not None:
                lo, hi = margins.get(axis, (0, 0))
                start, extent = frames[axis].start, frames[axis].size
                margins[axis] = (
                    max(lo, -int(start.min())),
                    max(hi, int(start.max()) + extent - size),
                )

    image, logits = plan.program.image, plan.program.logits
    note(image, plan.block_windows, plan.windows[image], 0.0)
    for step in plan.steps:
        for atom, frame in zip(step.equation.inputs, step.frames, strict=True):
            if frame is not None:
                assert isinstance(atom, int)
                note(atom, plan.windows[atom], frame, step.rule.outside)
    note(logits, plan.windows[logits], plan.output_windows, 0.0)
    return found


def operands_of(plan: Plan, variables: Any) -> dict[int, jax.Array]:
    """Operands of the steps that come from the weights alone."""
    program = plan.program
    values = dict(zip(program.variables, jax.tree.leaves(variables), strict=True))
    for equation in program.equations:
        if not any(out in program.of_image for out in equation.outputs):
            found = equation.bind(*(operand(values, atom) for atom in equation.inputs))
            values.update(zip(equation.outputs, found, strict=True))
    return {
        atom: values[atom]
        for step in plan.steps
        for atom, frame in zip(step.equation.inputs, step.frames, strict=True)
        if frame is None and isinstance(atom, int)
    }
