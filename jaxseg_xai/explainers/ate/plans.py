"""How the interventions of some work are evaluated in windows, and how many at a time."""

import math
from typing import Any

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.explainers.ate.engine import Work
from jaxseg_xai.incremental import Plan, make_plan
from jaxseg_xai.incremental.sliding import SlidingPlan, make_sliding_plan, slides

#: Interventions that a CPU core evaluates at a time, and bytes that a window of all of them should
#: have at most: small windows stay in its cache.
CPU_BATCH, _CPU_BYTES = 10, 2**22
#: Share of an accelerator's memory for the windows of one batch, and the most that helps.
_MEMORY_SHARE, _MOST = 0.25, 4096


def plan_of(segmenter: Segmenter, variables: Any, work: Work, num_patches: int) -> Plan:
    """How so many interventions on one block of an image are evaluated."""
    return make_plan(segmenter, variables, work.shape, **_sides(work), num_patches=num_patches)


def sliding_plan_of(
    segmenter: Segmenter, variables: Any, work: Work, num_patches: int
) -> SlidingPlan:
    """The same of a model that `slides`."""
    return make_sliding_plan(
        segmenter, variables, work.shape, **_sides(work), num_patches=num_patches
    )


def share_of(segmenter: Segmenter, variables: Any, work: Work) -> float:
    """FLOPs of an intervention over those of a forward pass, in (0, 1]."""
    plan_for = sliding_plan_of if slides(segmenter) else plan_of
    plan = plan_for(segmenter, variables, work, 1)
    return 1.0 if plan.saves_nothing else plan.share


def windows_that_fit(device: Any, plan: Plan, work: Work) -> int:
    """Interventions at a time that a device has room for."""
    if device.platform == "cpu":
        return max(1, min(CPU_BATCH, _CPU_BYTES // plan.largest_window_bytes))
    limit = (device.memory_stats() or {}).get("bytes_limit", 8 << 30)
    # Every region has a number per pixel of the box.
    needed = plan.window_bytes + 4 * work.num_regions * math.prod(plan.region)
    return int(min(_MOST, max(1, _MEMORY_SHARE * limit // needed)))


def _sides(work: Work) -> dict[str, tuple[int, ...]]:
    block = tuple(min(work.block_size, size) for size in work.shape[:-1])
    return {"block": block, "region": work.box}
