"""The ATE of four regions of an image in one pass, and of one region after the other."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.kind import Ours
from benchmarks.agree.verdict import Validation, all_of, explained
from benchmarks.arrays import Inputs, even
from benchmarks.harness.settings import Settings
from benchmarks.methods.ate import AteCase, plan_of, pooled
from benchmarks.methods.base import Prepared, Ran
from benchmarks.methods.inputs import BOX_SIDE, choose_images, inputs_of, predictor
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.models import Bundle

#: Regions along each axis: the tiles of one square.
_TILES = 2
_ALONE = "ours, region by region"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionsCase(AteCase):
    """Blocks of `lanes` images; both ways make the same draws."""

    has_peers: bool = False

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        side = min(BOX_SIDE, settings.size // _TILES)
        together, alone = explainer.in_box(_TILES * side), explainer.in_box(side)
        inputs = inputs_of(bundle, *choose_images(bundle, settings, settings.lanes), explainer)
        inputs = inputs.replace(targets=_tiles(bundle, inputs, side))
        inputs = pooled(settings, bundle, inputs, together)
        # Those inside one region, too: they are outside of the others.
        all_blocks = np.ones(together.grid(inputs.images.shape[1:3]), bool)
        blocks = even(all_blocks, settings.blocks or all_blocks.size)
        inputs = inputs.replace(blocks=np.stack([blocks] * settings.lanes))
        first = inputs.replace(targets=_region(inputs.targets, 0))
        return {"ours": (together, inputs), _ALONE: (alone, first)}

    def contender(self, settings: Settings, ours: dict[str, Ours], name: str) -> Callable[[], Any]:
        if name == "ours":
            return ours[name]
        explainer, problem, images, _, *others = ours[name].arguments
        targets = ours["ours"].arguments[3]
        each = [_region(targets, region) for region in range(_TILES**2)]
        return lambda: [
            ours[name].compiled(explainer, problem, images, one, *others) for one in each
        ]

    def figures(self, ran: Ran) -> dict[str, Any]:
        """Also a line for each way: how much less the one pass does."""
        settings, alone, table = ran.settings, ran.results[_ALONE], []
        made = {
            "ours": float(np.sum(ran.found.scores["num_evaluated"][:, 0])),
            _ALONE: float(sum(np.sum(one.scores["num_interventions"]) for one in alone)),
        }
        plans = {
            name: plan_of(one.bundle, settings.size, Ate.block_size, one.explainer.region_side)
            for name, one in ran.ours.items()
        }
        flops = {name: float(plan.flops * made[name]) for name, plan in plans.items()}
        for name, timing in ran.timings.items():
            table.append(
                {
                    "who": name,
                    "interventions evaluated": made[name],
                    "over one pass's": made[name] / max(made["ours"], 1.0),
                    "FLOPs, over one pass's": flops[name] / max(flops["ours"], 1.0),
                    "seconds, over one pass's": timing.median / ran.timings["ours"].median,
                }
            )
        blocks = float(ran.main.inputs.blocks.sum())
        regions = float(settings.lanes * len(alone))
        return {
            "work": {"explanations": regions, "interventions": made["ours"], "blocks": blocks},
            "flops": flops["ours"] + float(plans["ours"].dense_flops * settings.lanes),
            "flops_of": self.flops_of,
            "series": {"regions": table},
        }

    def validate(self, ran: Ran, mesh: Mesh) -> Validation:
        """Every region of every image, in one pass against alone."""
        found, others = jax.device_get((ran.found, ran.results[_ALONE]))
        alone, verdicts = ran.ours[_ALONE], {"status": explained(found)}
        subject = alone.subject(alone.bundle, ran.settings.dtype)
        for number, other in enumerate(others):
            inputs = ran.main.inputs.replace(targets=_region(ran.main.inputs.targets, number))
            mine, theirs = alone.arrays(_region(found, number)), alone.arrays(other)
            one = dataclasses.replace(subject, inputs=inputs)
            verdicts[f"region {number} alone"] = alone.kind.compare(mine, theirs, one)
        return all_of(verdicts)


def _tiles(bundle: Bundle, inputs: Inputs, side: int) -> SegmentTarget:
    """Targets [N, R, ...]: squares side by side, around the regions of inputs [N, ...].

    Each with the class that the model finds most of in it: a Dice of few pixels would make much
    of every one that rounding flips.
    """
    predict, found = predictor(bundle), []
    for image, region in zip(inputs.images, inputs.targets.region, strict=True):
        labels, targets = predict(image), []
        middle = np.argwhere(region).mean(0)
        first = np.clip(middle - side * _TILES / 2, 0, np.subtract(labels.shape, side * _TILES))
        for tile in np.ndindex(_TILES, _TILES):
            own, (top, left) = (
                np.zeros(labels.shape, bool),
                first.astype(int) + side * np.array(tile),
            )
            own[top : top + side, left : left + side] = True
            most = np.argmax(np.bincount(labels[own]))
            reference = labels == most
            targets.append(
                SegmentTarget(class_index=np.int32(most), region=own, reference=reference)
            )
        found.append(jax.tree.map(lambda *leaves: np.stack(leaves), *targets))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def _region(tree: Any, number: int) -> Any:
    """Of one region, where the leaves are [N, R, ...]."""
    return jax.tree.map(lambda leaf: leaf[:, number], tree)


REGIONS = RegionsCase(
    name="ate-regions",
    about="the ATE on four regions in one pass and region by region, on some of the blocks",
    defaults=Settings(model="reference", size=128, lanes=1, blocks=16),
    quick=Settings(model="reference", size=128, lanes=1, blocks=4),
    explainer=Ate(),
    # Screening is one more program to compile, for each of the two.
    shorter={"num_screen": 0, "num_patches": 10},
    flops_of="convolutions and products in the windows of every intervention of the one pass, "
    "and a forward pass per image",
)
