"""The ATE of any architecture in windows, and with the whole model for every intervention."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.verdict import Bound, Validation, all_of, explained, judge
from benchmarks.arrays import Inputs, even
from benchmarks.harness.settings import Settings
from benchmarks.harness.timing import timed
from benchmarks.methods.ate import AteCase, drawn, outside, plan_of
from benchmarks.methods.base import Prepared, Ran
from benchmarks.methods.inputs import BOX_SIDE, Pictures, channels_of, predictor
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.ate.engine import Engine
from jaxseg_xai.explainers.ate.whole import WholeEngine
from jaxseg_xai.incremental import Plan
from jaxseg_xai.models import Bundle
from jaxseg_xai.ops.blocks import paint_blocks
from jaxseg_xai.sweeps.regions import Region, find_region

WHOLE = "ours, whole images"
#: Largest difference of two effects, in points of the mean probability.
_TOLERANCE = 1e-3
#: Seconds that a repetition may take, of either way: of slow models fewer draws and blocks are
#: evaluated, and the record says how many.
_SECONDS = 8.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeAte(Ate):
    """Every changed image goes through the whole model."""

    engine: ClassVar[type[Engine]] = WholeEngine


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowsCase(AteCase):
    """Some blocks of one image, and one of them with the whole model; of slow models fewer."""

    has_peers: bool = False

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        image = Pictures(settings.size, channels_of(bundle))[0].image[None]
        predict = predictor(bundle)
        predict(image[0])  # compiles
        labels, forward = timed(lambda: predict(image[0]))
        # What a random network finds most of: there is always such a class.
        most = np.argmax(np.bincount(labels.ravel()))
        region = find_region(labels == most, Region(kind="box", side=min(BOX_SIDE, settings.size)))
        targets = SegmentTarget(
            class_index=np.array([most], np.int32),
            region=region[None],
            reference=labels[None] == most,
        )
        explainer = dataclasses.replace(
            explainer, num_patches=_fitting(forward, 2, explainer.num_patches)
        )
        plan = plan_of(bundle, settings.size, explainer.block_size, BOX_SIDE)
        each = forward * explainer.num_patches * plan.flops / plan.dense_flops
        inputs = drawn(bundle, Inputs(images=image, targets=targets), explainer)
        available = outside(inputs, explainer)
        few = even(available, _fitting(each, 1, settings.blocks or inputs.images.size))
        one, places = np.zeros_like(few), np.argwhere(few)
        one[tuple(places[len(places) // 2])] = True
        whole = WholeAte(**vars(explainer))
        return {
            "ours": (explainer, inputs.replace(blocks=few)),
            WHOLE: (whole, inputs.replace(blocks=one)),
        }

    def figures(self, ran: Ran) -> dict[str, Any]:
        """Also how many times faster windows are, and how many times fewer FLOPs they need."""
        settings = ran.settings
        plan = plan_of(ran.main.bundle, settings.size, ran.main.explainer.block_size, BOX_SIDE)
        blocks, row = float(ran.main.inputs.blocks.sum()), against_whole(ran, plan)
        return {
            "work": {"interventions": row["interventions"], "blocks": blocks},
            "flops": plan.flops * row["interventions"] + plan.dense_flops,
            "flops_of": self.flops_of,
            "series": {"windows": [{"architecture": settings.model, "blocks": blocks} | row]},
        }

    def validate(self, ran: Ran, mesh: Mesh) -> Validation:
        """Both ways on the block that both did."""
        return all_of({"status": explained(ran.found), "whole images": same_effects(ran)})


def against_whole(ran: Ran, plan: Plan) -> dict[str, float]:
    """How many times faster interventions are in windows than through the whole model.

    Against how many times fewer FLOPs they need, the image's own pass included.
    """
    made = {
        name: float(np.sum(found.scores["num_interventions"]))
        for name, found in ran.results.items()
        if name in ran.ours
    }
    each = {name: ran.timings[name].median / count for name, count in made.items()}
    fewer = plan.dense_flops * made["ours"] / (plan.flops * made["ours"] + plan.dense_flops)
    faster = each[WHOLE] / each["ours"]
    return {
        "interventions": made["ours"],
        "interventions with the whole model": made[WHOLE],
        "times fewer FLOPs an intervention": plan.dense_flops / plan.flops,
        "with the image's own pass": fewer,
        "times faster": faster,
        "faster over fewer": faster / fewer,
    }


def same_effects(ran: Ran, tolerance: float = _TOLERANCE) -> Validation:
    """Both ways on the blocks that both did, in points."""
    found, side = jax.device_get(ran.results), ran.main.explainer.block_size
    windows, whole = (found[name].attribution[0] for name in ("ours", WHOLE))
    both = paint_blocks(jnp.asarray(ran.ours[WHOLE].inputs.blocks[0]), side, windows.shape)
    return judge(
        Bound("points", float(np.max(np.abs(windows - whole)[np.asarray(both)])), tolerance),
        why="the same draws on the same blocks, in windows and through the whole model",
    )


def _fitting(seconds: float, fewest: int, most: int) -> int:
    """How many of what takes so many seconds each a repetition has time for."""
    return max(fewest, min(most, int(_SECONDS / seconds)))


WINDOWS = WindowsCase(
    name="windows",
    about="the ATE of an architecture with random weights (--model), in windows and whole",
    defaults=Settings(model="segnet", size=256, lanes=1, blocks=8),
    quick=Settings(model="lraspp_mobilenet_v3_large", size=64, lanes=1, blocks=2),
    explainer=Ate(
        perturbation="noise",
        num_screen=0,
        num_patches=16,
        threshold=0.0,
        outcome="mean_probability",
        region_side=BOX_SIDE,
    ),
    shorter={"num_patches": 2},
)
