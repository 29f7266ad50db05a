"""What the steps of a plan read of each other's windows, and of the unperturbed image."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.core.caches import remembered
from jaxseg_xai.incremental.plan import Plan, Step, Window, Windows


class Read(NamedTuple):
    """What is read of a value.

    Attributes:
      frames: where.
      outside: what stands there beyond the border of the image.
      outward: axes along which that matters; windows that leave the image may hold anything there.
    """

    frames: Windows
    outside: float = 0.0
    outward: frozenset[str] = frozenset()


def reads_of(plan: Plan, step: Step) -> list[Read | None]:
    """What a step reads of its operands; None for those read as they are."""
    found: list[Read | None] = []
    for atom, frames, reach in zip(step.equation.inputs, step.frames, step.rule.reach, strict=True):
        if frames is None:
            found.append(None)
            continue
        assert isinstance(atom, int)
        outward = {
            axis
            for axis, size in plan.sizes(atom).items()
            if axis == step.rule.contracted
            or (axis in reach and (reach[axis].lo.min() < 0 or reach[axis].hi.max() > size))
        }
        found.append(Read(frames, step.rule.outside, frozenset(outward)))
    return found


def all_reads(plan: Plan) -> Iterator[tuple[int, Windows, Read]]:
    """(value, its windows, what is read of it) in the order of evaluation, image to logits."""
    image, logits = plan.program.image, plan.program.logits
    yield image, plan.block_windows, Read(plan.windows[image])
    for step in plan.steps:
        for atom, read in zip(step.equation.inputs, reads_of(plan, step), strict=True):
            if read is not None:
                assert isinstance(atom, int)
                yield atom, plan.windows[atom], read
    yield logits, plan.windows[logits], Read(plan.output_windows)


def padded(plan: Plan, value: int, outside: float, whole: jax.Array) -> jax.Array:
    """All of a value with the border that frames read."""
    margins = margins_of(plan)[value, outside]
    config = [(*margins.get(axis or "", (0, 0)), 0) for axis in plan.dims[value]]
    return lax.pad(whole, filler_of(outside, whole.dtype), config)


def key_of(value: int, outside: float) -> str:
    """Name of a source."""
    return f"{value}:{outside}"


@remembered(32)
def margins_of(plan: Plan) -> Mapping[tuple[int, float], dict[str, tuple[int, int]]]:
    """How far frames leave the border, of the values that they are filled up from.

    By value and by what stands outside its border where it is read.
    """
    found: dict[tuple[int, float], dict[str, tuple[int, int]]] = {}

    for value, windows, read in all_reads(plan):
        if all(covers(windows[axis], frame) for axis, frame in read.frames.items()):
            continue
        margins = found.setdefault((value, read.outside), {})
        for axis, size in plan.sizes(value).items():
            lo, hi = margins.get(axis, (0, 0))
            start, extent = read.frames[axis].start, read.frames[axis].size
            margins[axis] = (
                max(lo, -int(start.min())),
                max(hi, int(start.max()) + extent - size),
            )
    return found


def kept_bytes(plan: Plan) -> int:
    """Of the activations of the unperturbed image that are kept, with their borders."""
    total = 0
    for (value, _), margins in margins_of(plan).items():
        shape = plan.program.shapes[value]
        sizes = [
            n + sum(margins.get(axis or "", ()))
            for axis, n in zip(plan.dims[value], shape.shape, strict=True)
        ]
        total += math.prod(sizes) * shape.dtype.itemsize // plan.num_patches
    return total


def filler_of(outside: float, dtype: Any) -> jax.Array:
    """What stands outside the border, in a type that may have no infinity."""
    if np.isinf(outside) and jnp.issubdtype(dtype, jnp.integer):
        outside = jnp.iinfo(dtype).max if outside > 0 else jnp.iinfo(dtype).min
    return jnp.asarray(outside, dtype)


def offsets_between(local: Window, frame: Window) -> np.ndarray:
    """First pixels of a frame counted from a window, at all positions."""
    if local.of == frame.of:
        return frame.start - local.start
    return frame.start[:, None] - local.start


def covers(local: Window, frame: Window) -> bool:
    """Whether a window holds all of a frame at all positions."""
    offsets = offsets_between(local, frame)
    return bool(offsets.min() >= 0 and offsets.max() + frame.size <= local.size)


def leaves(window: Window, size: int) -> bool:
    """Whether it leaves an axis of `size` anywhere."""
    return bool(window.start.min() < 0 or window.start.max() + window.size > size)
