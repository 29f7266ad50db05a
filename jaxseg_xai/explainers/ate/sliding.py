"""Interventions on images that a network sees patch by patch: few of the patches are evaluated."""

import dataclasses
from typing import Any, Self

import jax
from jax.sharding import Mesh

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers.ate.engine import Engine, Started, Work
from jaxseg_xai.explainers.ate.plans import sliding_plan_of, windows_that_fit
from jaxseg_xai.explainers.ate.whole import WholeEngine
from jaxseg_xai.incremental.patches import (
    grid_shape_of,
    intervene_in_patches,
    prepare_patches,
    reachable,
    seen_pixels,
    weights_of,
)
from jaxseg_xai.incremental.sliding import SlidingPlan
from jaxseg_xai.ops.blocks import block_corner
from jaxseg_xai.outcomes import Outcome
from jaxseg_xai.program.memory import images_that_fit


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SlidingEngine(Engine):
    """An engine for images or volumes [*S, C] of a model that `slides`.

    Attributes:
      segmenter: the model.
      plan: how `per_call` interventions on one block are evaluated.
    """

    segmenter: Segmenter
    plan: SlidingPlan

    @classmethod
    def build(
        cls, segmenter: Segmenter, variables: Any, outcome: Outcome, work: Work, mesh: Mesh
    ) -> Self | WholeEngine:
        """See `Engine.build`; one for whole images where every patch matters to every block."""
        plan, device = sliding_plan_of(segmenter, variables, work, 1), mesh.devices.flat[0]
        if plan.saves_nothing:
            return WholeEngine.build(segmenter, variables, outcome, work, mesh)
        if work.batch_size is not None:
            batch_size = work.batch_size
        elif plan.windowed:
            batch_size = windows_that_fit(device, plan.patch, work)
        else:
            patch = plan.patch.image_shape
            batch_size = images_that_fit(device, segmenter, variables, patch)
        per_call = work.per_call(batch_size)
        return cls(
            output=segmenter.output,
            outcome=outcome,
            box=work.box,
            per_call=per_call,
            lanes=1,
            num_devices=mesh.size,
            segmenter=segmenter,
            plan=sliding_plan_of(segmenter, variables, work, per_call),
        )

    def start(self, variables: Any, image: jax.Array, targets: SegmentTarget) -> Started:
        """See `Engine.start`."""
        logits = self.segmenter.logits(variables, image[None])[0]
        started = self.look(None, logits, targets)
        prepared = prepare_patches(self.plan, variables, image, logits, started.corner)
        return dataclasses.replace(started, prepared=prepared)

    def share(self, started: Started, variables: Any) -> Started:
        """See `Engine.share`: the activations are the same, the weights' operands are not."""
        prepared = started.prepared._replace(weights=weights_of(self.plan, variables))
        return dataclasses.replace(started, prepared=prepared)

    def reachable(self, started: Started) -> jax.Array:
        """See `Engine.reachable`."""
        return reachable(self.plan, started.corner)

    def seen(self, started: Started) -> jax.Array:
        """See `Engine.seen`."""
        return seen_pixels(self.plan, started.corner)

    def logits_of(self, started: Started, patches: jax.Array, block: jax.Array) -> jax.Array:
        """See `Engine.logits_of`."""
        place = block_corner(block, grid_shape_of(self.plan))
        # An image that is smaller than a block has a smaller one.
        held = patches[:, *map(slice, self.plan.block)]
        return intervene_in_patches(self.plan, started.prepared, place, held)
