"""Finds, before anything runs, which windows an intervention on a block makes necessary."""

from typing import Any

import numpy as np

from jaxseg_xai.core.types import Predict
from jaxseg_xai.incremental.flow import Flow
from jaxseg_xai.incremental.plan import AXES, Plan
from jaxseg_xai.incremental.positions import block_starts, check_sizes, check_step
from jaxseg_xai.incremental.steps import reaches_of, step_of, windows_of
from jaxseg_xai.program.batches import for_one_image
from jaxseg_xai.program.trace import Program, trace


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
    flow = Flow(program, base, several, image_shape, block, blocks, region, why)
    flow.run()
    windows = {value: windows_of(flow, value) for value in flow.needed}
    return Plan(
        program=program,
        base=base,
        image_shape=image_shape,
        block=block,
        block_starts=blocks,
        region=flow.region,
        region_starts=flow.regions,
        region_follows=flow.follows,
        anchored=flow.anchors is not None,
        dims=flow.dims,
        windows=windows,
        steps=tuple(step_of(flow, *entry, windows) for entry in flow.rules),
        reaches={axis: reaches_of(flow, axis) for axis in axes},
        needs={
            axis: (needed.lo, needed.hi)
            for axis, needed in flow.needed.get(program.image, {}).items()
        },
    )


def _structure(program: Program) -> list[Any]:
    return [
        (equation.primitive, [len(program.shapes[out].shape) for out in equation.outputs])
        for equation in program.equations
    ]
