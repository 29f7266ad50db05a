"""How busy MiSuRe's lanes are when images need different numbers of steps."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.verdict import Bound, Validation, all_of, judge
from benchmarks.harness.record import Row
from benchmarks.harness.settings import Defaults
from benchmarks.methods.base import MethodCase, Ran
from jaxseg_xai.core.types import Explanation
from jaxseg_xai.devices.lanes import LaneUse, run_lanes
from jaxseg_xai.explainers.misure.search import Misure

#: Lanes of a device.
_LANES = 4
#: Bound on a GPU, where products may be added up in any order; an H100 showed 1.4e-6.
_NOT_REPRODUCIBLE = 1e-5
#: Images that are explained once more, without the others.
_ALONE = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanesCase(MethodCase):
    """Our default MiSuRe, which ends by itself, of many images in few lanes."""

    has_peers: bool = False

    def figures(self, ran: Ran) -> dict[str, Any]:
        """Also how busy the lanes are, by letting them count steps in the place of the search."""
        steps = np.asarray(ran.found.scores["iterations"]).astype(np.int32)
        parts = np.split(steps, ran.settings.devices)
        uses = [jax.device_get(_count(jnp.asarray(part))) for part in parts]
        # Without refilling, lanes would start together and wait for the slowest of them.
        groups = [part[i : i + _LANES] for part in parts for i in range(0, len(part), _LANES)]
        waiting = sum(group.max() * _LANES for group in groups)
        # A device that is done while another is not counts as idle.
        total = len(parts) * max(int(use.total) for use in uses)
        row: Row = {
            "lanes": float(_LANES * len(parts)),
            "images": float(len(steps)),
            "steps, fewest": float(steps.min()),
            "steps, mean": float(steps.mean()),
            "steps, most": float(steps.max()),
            "busy": float(sum(int(use.useful) for use in uses) / total),
            "busy without refilling": float(steps.sum() / waiting),
        }
        work = {"explanations": float(len(steps)), "iterations": float(steps.sum())}
        return {"work": work, "flops": None, "flops_of": "", "series": {"lanes": [row]}}

    def validate(self, ran: Ran, mesh: Mesh) -> Validation:
        """Also: the first images must be explained as they are without the others."""
        explainer, problem, batch = ran.main.arguments
        few = dataclasses.replace(batch, valid=np.arange(len(batch.valid)) < _ALONE)
        alone = ran.main.compiled(explainer, problem, few)
        same = _same(*jax.device_get((ran.found, alone)))
        return all_of({"the first images alone": same, "all": super().validate(ran, mesh)})


@jax.jit
def _count(steps: jax.Array) -> LaneUse:
    """Lanes whose jobs take so many steps each."""
    _, use = run_lanes(
        lambda number: steps[number],
        lambda left: left - 1,
        lambda left: left <= 0,
        lambda left: left,
        jnp.ones(len(steps), bool),
        num_lanes=_LANES,
    )
    return use


def _same(found: Explanation, alone: Explanation) -> Validation:
    pairs = zip(*(jax.tree.leaves((e.attribution, e.scores)) for e in (found, alone)), strict=True)
    worst = max(
        float(np.max(np.abs(np.nan_to_num(a[:_ALONE]) - np.nan_to_num(b[:_ALONE]))))
        for a, b in pairs
    )
    tolerance = 0.0 if jax.default_backend() == "cpu" else _NOT_REPRODUCIBLE
    return judge(
        Bound("attribution or score", worst, tolerance),
        why=f"the first {_ALONE} images without the others: the same program, so the same bits; "
        "not on accelerators, which may add up in another order at every run",
    )


LANES = LanesCase(
    name="misure-lanes",
    about="how busy the lanes are with images that need different numbers of steps",
    defaults=Defaults(model="triangle", size=64, lanes=256),
    quick=Defaults(model="triangle", size=64, lanes=8),
    explainer=Misure(lanes=_LANES),
    shorter={"num_iterations": 10, "patience": 3},
    references=("misure",),
)
