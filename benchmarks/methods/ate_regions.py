"""The ATE of four regions of an image in one pass, and of one region after the other."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.kind import Ours, Subject, logits_of
from benchmarks.agree.verdict import Validation, all_of, explained
from benchmarks.arrays import Inputs
from benchmarks.harness.settings import Defaults, Settings
from benchmarks.methods.ate import AteCase, drawn, even, plan_of
from benchmarks.methods.base import Ran
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

    def prepare(
        self, settings: Settings, bundle: Bundle, explainer: Any
    ) -> dict[str, tuple[Any, Inputs]]:
        side = min(BOX_SIDE, settings.size // _TILES)
        alone, together = (
            dataclasses.replace(explainer, region_side=box) for box in (side, _TILES * side)
        )
        inputs = inputs_of(bundle, *choose_images(bundle, settings, settings.lanes), explainer)
        inputs = inputs.replace(targets=_tiles(bundle, inputs, side))
        inputs = drawn(settings, bundle, inputs, together)
        first = inputs.replace(targets=_region(inputs.targets, 0))
        return {"ours": (together, inputs), _ALONE: (alone, first)}

    def contender(self, settings: Settings, ours: dict[str, Ours], name: str) -> Callable[[], Any]:
        explainer, problem, images, _, draws, blocks = ours[name].arguments
        # Those inside one region, too: they are outside of the others.
        blocks = np.array([even(one, settings.blocks or one.size) for one in blocks])
        targets = ours["ours"].arguments[3]

        def explain(targets: SegmentTarget) -> Any:
            return ours[name].compiled(explainer, problem, images, targets, draws, blocks)

        if name == "ours":
            return lambda: explain(targets)
        return lambda: [explain(_region(targets, region)) for region in range(_TILES**2)]

    def figures(self, ran: Ran) -> dict[str, Any]:
        """Also a line for each way: how much less the one pass does."""
        settings, alone = ran.settings, ran.results[_ALONE]
        made = {
            "ours": float(np.sum(ran.found.scores["num_evaluated"][:, 0])),
            _ALONE: float(sum(np.sum(one.scores["num_interventions"]) for one in alone)),
        }
        plans = {
            name: plan_of(one.bundle, settings.size, Ate.block_size, one.explainer.region_side)
            for name, one in ran.ours.items()
        }
        flops = {name: float(plan.flops * made[name]) for name, plan in plans.items()}
        blocks = settings.lanes * min(settings.blocks or np.inf, ran.main.arguments[-1][0].size)
        regions = float(settings.lanes * len(alone))
        return {
            "work": {"explanations": regions, "interventions": made["ours"], "blocks": blocks},
            "flops": flops["ours"] + float(plans["ours"].dense_flops * settings.lanes),
            "flops_of": self.flops_of,
            "series": {
                "regions": [
                    {
                        "who": name,
                        "interventions evaluated": made[name],
                        "over one pass's": made[name] / max(made["ours"], 1.0),
                        "FLOPs, over one pass's": flops[name] / max(flops["ours"], 1.0),
                        "seconds, over one pass's": timing.median / ran.timings["ours"].median,
                    }
                    for name, timing in ran.timings.items()
                ]
            },
        }

    def validate(self, ran: Ran, mesh: Mesh) -> Validation:
        """Every region of every image, in one pass against alone."""
        found, others = jax.device_get((ran.found, ran.results[_ALONE]))
        alone, verdicts = ran.ours[_ALONE], {"status": explained(found)}
        for number, other in enumerate(others):
            subject = Subject(
                explainer=alone.explainer,
                inputs=ran.main.inputs.replace(targets=_region(ran.main.inputs.targets, number)),
                logits=logits_of(alone.bundle),
                dtype=ran.settings.dtype,
                moved=np.zeros(ran.settings.lanes),
            )
            one = jax.tree.map(lambda leaf, r=number: leaf[:, r], found)
            mine, theirs = alone.arrays(one), alone.arrays(other)
            verdicts[f"region {number} alone"] = alone.kind.compare(mine, theirs, subject)
        return all_of(verdicts)


def _tiles(bundle: Bundle, inputs: Inputs, side: int) -> SegmentTarget:
    """Targets [N, R, ...]: squares side by side, around the regions of inputs [N, ...].

    Each with the class that the model finds most of in it: a Dice of few pixels would make much
    of every one that rounding flips.
    """
    predict, found = predictor(bundle), []
    for image, region in zip(inputs.images, inputs.targets.region, strict=True):
        labels = predict(image)
        middles = [np.flatnonzero(region.any(axis)).mean() for axis in (1, 0)]
        first = [
            int(np.clip(middle - side * _TILES / 2, 0, size - side * _TILES))
            for middle, size in zip(middles, labels.shape, strict=True)
        ]
        for tile in np.ndindex(_TILES, _TILES):
            own, (top, left) = np.zeros(labels.shape, bool), np.add(first, np.multiply(side, tile))
            own[top : top + side, left : left + side] = True
            most = np.argmax(np.bincount(labels[own]))
            found.append(
                SegmentTarget(class_index=np.int32(most), region=own, reference=labels == most)
            )
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
    leading = (len(inputs.images), _TILES**2)
    return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), stacked)


def _region(targets: SegmentTarget, region: int) -> SegmentTarget:
    return jax.tree.map(lambda leaf: leaf[:, region], targets)


REGIONS = RegionsCase(
    name="ate-regions",
    about="the ATE on four regions in one pass and region by region, on some of the blocks",
    defaults=Defaults(model="reference", size=128, lanes=1, blocks=16),
    quick=Defaults(model="reference", size=128, lanes=1, blocks=4),
    explainer=Ate(),
    # Screening is one more program to compile, for each of the two.
    shorter={"num_screen": 0, "num_patches": 10},
    flops_of="convolutions and products in the windows of every intervention of the one pass, "
    "and a forward pass per image",
)
