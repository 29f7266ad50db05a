"""What a model costs and sees, found from its program; no weights are needed."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxseg_xai.incremental import make_plan
from jaxseg_xai.incremental.plan import Plan
from jaxseg_xai.models.bundle import Bundle, ModelCard, bundle_of
from jaxseg_xai.models.registry import MODELS
from jaxseg_xai.program.costs import flops_of
from jaxseg_xai.program.sites import find_sites
from jaxseg_xai.program.trace import Program, trace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """A model at one size of images.

    Attributes:
      num_parameters: numbers that training sets.
      size: (H, W) or (D, H, W) of the image: the next that the model takes.
      flops: of a forward pass of one image; convolutions and matrix products, two a product.
      output_stride: pixels of the image per pixel of the layer that class activation maps look at,
        along the first axis; None where the model names none.
      receptive_field: how many pixels along each axis can change the logits of the central pixel.
      saving: FLOPs of a forward pass over those of an intervention on one block that is computed in
        windows, as `jaxseg-xai plan` lists them.
    """

    num_parameters: int
    size: tuple[int, ...]
    flops: int
    output_stride: int | None
    receptive_field: tuple[int, ...]
    saving: float


def untrained(name: str) -> Bundle:
    """An architecture with its published settings; the weights are their shapes.

    Raises:
      ConfigError: no such architecture.
    """
    config = MODELS.get(name)()
    classes = tuple(f"class {k}" for k in range(max(2, config.num_logits)))
    card = ModelCard(architecture=name, config=dataclasses.asdict(config), class_names=classes)
    return bundle_of(card, nnx.eval_shape(lambda: config.build(nnx.Rngs(0))), name)


def summarise(bundle: Bundle, side: int, *, block_size: int, region_side: int) -> Summary:
    """Trace a model and plan an intervention; nothing is computed.

    Args:
      bundle: the model; its variables may be shapes.
      side: of the image in pixels, along every axis; a model of another size has its own.
      block_size: side of the block of an intervention.
      region_side: side of the box in the output that matters.

    Raises:
      ModelError: the model cannot be traced.
      ConfigError: a block or region larger than the image.
    """
    segmenter, spec = bundle.segmenter, bundle.segmenter.input
    size = spec.fixed_size or (side + -side % spec.multiple_of,) * spec.rank
    program = trace(segmenter, bundle.variables, (1, *size, spec.channels), np.float32)
    return Summary(
        num_parameters=num_parameters(bundle.variables),
        size=size,
        flops=_flops(program),
        output_stride=_stride(program, segmenter.sites.cam_layer),
        receptive_field=_receptive_field(_plan(bundle, size, 1, 1)),
        saving=_plan(bundle, size, block_size, region_side).table().ratio,
    )


def num_parameters(variables: Any) -> int:
    """Numbers that training sets, of a network of ours."""
    weights = nnx.filter_state(variables, nnx.Param)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(weights))


def _plan(bundle: Bundle, size: tuple[int, ...], block_side: int, region_side: int) -> Plan:
    return make_plan(
        bundle.segmenter,
        bundle.variables,
        (*size, bundle.segmenter.input.channels),
        block=(block_side,) * len(size),
        region=(region_side,) * len(size),
        num_patches=1,
    )


def _receptive_field(plan: Plan) -> tuple[int, ...]:
    """Blocks that can change the region in the middle, along each axis; both are pixels."""
    return tuple(int(reaches[:, reaches.shape[1] // 2].sum()) for reaches in plan.reaches.values())


def _flops(program: Program) -> int:
    total = 0
    for equation in program.equations:
        inputs = [
            program.shapes[atom].shape if isinstance(atom, int) else np.shape(atom)
            for atom in equation.inputs
        ]
        outputs = [program.shapes[value].shape for value in equation.outputs]
        total += flops_of(equation.primitive.name, equation.params, inputs, outputs)
    return total


def _stride(program: Program, layer: str) -> int | None:
    height = program.shapes[program.image].shape[1]
    for site in find_sites(program):
        if site.name == layer:
            return round(height / program.shapes[site.value].shape[1])
    return None
