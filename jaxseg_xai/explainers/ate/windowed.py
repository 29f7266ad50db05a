"""Interventions in windows: only what a block can change and the regions can see is computed."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers.ate.engine import Engine, Started, Work
from jaxseg_xai.explainers.ate.plans import CPU_BATCH, plan_of, windows_that_fit
from jaxseg_xai.explainers.ate.sliding import SlidingEngine
from jaxseg_xai.explainers.ate.whole import WholeEngine
from jaxseg_xai.incremental import Place, Plan, intervene, operands_of, prepare
from jaxseg_xai.incremental.sliding import slides
from jaxseg_xai.ops.blocks import block_corner
from jaxseg_xai.outcomes import Outcome


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class WindowedEngine(Engine):
    """An engine for images or volumes [*S, C].

    Attributes:
      plan: how `per_call` interventions on one block are evaluated.
    """

    plan: Plan

    @classmethod
    def build(
        cls, segmenter: Segmenter, variables: Any, outcome: Outcome, work: Work, mesh: Mesh
    ) -> Engine:
        """See `Engine.build`; another kind where the model has patches, or windows save nothing."""
        if slides(segmenter):
            return SlidingEngine.build(segmenter, variables, outcome, work, mesh)
        plan_for = functools.partial(plan_of, segmenter, variables, work)
        plan = plan_for(num_patches=work.per_call(work.batch_size or CPU_BATCH))
        if plan.saves_nothing:
            return WholeEngine.build(segmenter, variables, outcome, work, mesh)
        batch_size = work.batch_size or windows_that_fit(mesh.devices.flat[0], plan, work)
        per_call = work.per_call(batch_size)
        if per_call != plan.num_patches:
            plan = plan_for(num_patches=per_call)
        # No more lanes than give every device some.
        calls = math.prod(work.grid) * -(-work.num_patches // per_call)
        return cls(
            output=segmenter.output,
            outcome=outcome,
            box=work.box,
            per_call=per_call,
            lanes=min(max(1, batch_size // per_call), -(-calls // mesh.size)),
            num_devices=mesh.size,
            plan=plan,
        )

    def start(self, variables: Any, image: jax.Array, targets: SegmentTarget) -> Started:
        """See `Engine.start`."""
        prepared = prepare(self.plan, variables, image)
        return self.look(prepared, prepared.logits, targets)

    def share(self, started: Started, variables: Any) -> Started:
        """See `Engine.share`: the activations are the same, the weights' operands are not."""
        prepared = started.prepared._replace(weights=operands_of(self.plan, variables))
        return dataclasses.replace(started, prepared=prepared)

    def reachable(self, started: Started) -> jax.Array:
        """See `Engine.reachable`."""
        found = jnp.bool(True)
        for reaches, first in zip(self.plan.reaches.values(), started.corner, strict=True):
            found = found[..., None] & jnp.asarray(reaches)[:, first]
        return found

    def seen(self, started: Started) -> jax.Array:
        """See `Engine.seen`."""
        seen = jnp.bool(True)
        for d, axis in enumerate(self.plan.axes):
            along = jnp.arange(started.logits.shape[d])
            low, high = 0, len(along)
            if axis in self.plan.needs:
                ends = (jnp.asarray(end, jnp.int32) for end in self.plan.needs[axis])
                low, high = (end[started.corner[d]] for end in ends)
            seen = seen[..., None] & (along >= low) & (along < high)
        return seen

    def logits_of(self, started: Started, patches: jax.Array, block: jax.Array) -> jax.Array:
        """See `Engine.logits_of`."""
        grid = [len(starts) for starts in self.plan.block_starts.values()]
        place = Place(block_corner(block, grid), started.corner)
        # An image that is smaller than a block has a smaller one.
        patches = patches[:, *map(slice, self.plan.block)]
        return intervene(self.plan, started.prepared, place, patches)
