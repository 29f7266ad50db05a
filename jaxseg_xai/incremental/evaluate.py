"""Runs a plan: the unperturbed image once, then any number of interventions in their windows."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax import lax

from jaxseg_xai.incremental.plan import Plan
from jaxseg_xai.incremental.reading import Place, Reader, Source
from jaxseg_xai.incremental.reads import Read, all_reads, key_of, margins_of, padded, reads_of
from jaxseg_xai.program.trace import operand

__all__ = [
    "Place",
    "Placed",
    "Prepared",
    "evaluate",
    "intervene",
    "operands_of",
    "prepare",
    "put",
]


class Prepared(NamedTuple):
    """What all interventions on one image share.

    Attributes:
      logits: float32 [*S, K] of the unperturbed image.
      sources: activations that frames are filled up from, with their borders.
      weights: operands made from the weights alone.
    """

    logits: jax.Array
    sources: Mapping[str, Source]
    weights: dict[int, jax.Array]


def prepare(plan: Plan, variables: Any, image: jax.Array) -> Prepared:
    """Run the model on the image [*S, C] and keep what interventions read."""
    values = plan.base.run(variables, image[None])
    number = dict(zip(plan.program.numbers(), plan.base.numbers(), strict=True))
    sources = {
        key_of(value, outside): padded(plan, value, outside, values[number[value]])
        for value, outside in margins_of(plan)
    }
    return Prepared(values[plan.base.logits][0], sources, operands_of(plan, variables))


class Placed(NamedTuple):
    """What all interventions at one place share.

    Attributes:
      place: where they are.
      around: per read of a value what it holds besides the window that is computed.
    """

    place: Place
    around: list[list[jax.Array]]


def put(plan: Plan, prepared: Prepared, place: Place) -> Placed:
    """Cut out what interventions at a place read of the unperturbed image."""
    reader = Reader(plan, place)
    around = [
        reader.surroundings(prepared.sources, value, windows, read)
        for value, windows, read in all_reads(plan)
    ]
    return Placed(place, around)


def intervene(plan: Plan, prepared: Prepared, place: Place, patches: jax.Array) -> jax.Array:
    """The logits in the region when patches are put in the place of a block.

    Args:
      plan: from `make_plan`.
      prepared: from `prepare`, of the image.
      place: of the block and the region.
      patches: [P, *b, C], P interventions on the same block of sides b.

    Returns:
      [P, *r, K] logits in the box of sides r, as if the model had run on every changed image.
    """
    return evaluate(plan, prepared, put(plan, prepared, place), patches)


def evaluate(plan: Plan, prepared: Prepared, placed: Placed, patches: jax.Array) -> jax.Array:
    """`intervene` at a place that was `put`."""
    reader, place = Reader(plan, placed.place), placed.place
    image, logits = plan.program.image, plan.program.logits
    around = iter(placed.around)
    first, last = Read(plan.windows[image]), Read(plan.output_windows)
    local = {image: reader.read(image, patches, plan.block_windows, first, next(around))}
    for step in plan.steps:
        reads = reads_of(plan, step)
        operands = [
            operand({**prepared.weights, **local}, atom)
            if read is None
            else reader.read(atom, local[atom], plan.windows[atom], read, next(around))
            for atom, read in zip(step.equation.inputs, reads, strict=True)
        ]
        spans = [read and reader.spans(read.frames) for read in reads]
        found = step.rule.apply(operands, reader.spans(step.window), spans)
        local.update(zip(step.equation.outputs, found, strict=True))
    found = reader.read(logits, local[logits], plan.windows[logits], last, next(around))
    for d in range(1, len(plan.image_shape)):
        if not plan.follows_image(d):
            found = lax.dynamic_slice_in_dim(found, place.region[d - 1], plan.region[d - 1], d)
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
