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
from jaxseg_xai.explainers.ate.whole import WholeEngine
from jaxseg_xai.incremental import Place, Plan, intervene, make_plan, operands_of, prepare
from jaxseg_xai.ops.blocks import block_corner
from jaxseg_xai.outcomes import Outcome

#: Interventions that a CPU core evaluates at a time, and bytes that a window of all of them should
#: have at most: small windows stay in its cache.
_CPU_BATCH, _CPU_BYTES = 10, 2**22
#: Share of an accelerator's memory for the windows of one batch, and the most that helps.
_MEMORY_SHARE, _MOST = 0.25, 4096


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
        """See `Engine.build`; one for whole images where windows would save nothing."""
        plan_for = functools.partial(plan_of, segmenter, variables, work)
        plan = plan_for(num_patches=work.per_call(work.batch_size or _CPU_BATCH))
        if plan.saves_nothing:
            return WholeEngine.build(segmenter, variables, outcome, work, mesh)
        batch_size = work.batch_size or _fitting(mesh.devices.flat[0], plan, work.num_regions)
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

    def logits_of(self, started: Started, patches: jax.Array, block: jax.Array) -> jax.Array:
        """See `Engine.logits_of`."""
        grid = [len(starts) for starts in self.plan.block_starts.values()]
        place = Place(block_corner(block, grid), started.corner)
        # An image that is smaller than a block has a smaller one.
        patches = patches[:, *map(slice, self.plan.block)]
        return intervene(self.plan, started.prepared, place, patches)


def plan_of(segmenter: Segmenter, variables: Any, work: Work, num_patches: int) -> Plan:
    """How so many interventions on one block are evaluated."""
    return make_plan(
        segmenter,
        variables,
        work.shape,
        block=tuple(min(work.block_size, size) for size in work.shape[:-1]),
        region=work.box,
        num_patches=num_patches,
    )


def _fitting(device: Any, plan: Plan, num_regions: int) -> int:
    """Interventions at a time that a device has room for."""
    if device.platform == "cpu":
        return max(1, min(_CPU_BATCH, _CPU_BYTES // plan.largest_window_bytes))
    limit = (device.memory_stats() or {}).get("bytes_limit", 8 << 30)
    # Every region has a number per pixel of the box.
    needed = plan.window_bytes + 4 * num_regions * math.prod(plan.region)
    return int(min(_MOST, max(1, _MEMORY_SHARE * limit // needed)))
