"""Which blocks deserve exact interventions: the ATE's gradient as a screen, and PdCR's random one.

The truth is the ATE without any screening. Each screen's cost stands beside its recall: the share
of the blocks with |ATE| >= threshold that it lets through.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.kind import Ours
from benchmarks.agree.verdict import Bound, Validation, all_of, explained, judge
from benchmarks.harness.record import Row
from benchmarks.harness.settings import Settings
from benchmarks.methods.ate import AteCase, plan_of
from benchmarks.methods.base import Prepared, Ran
from benchmarks.methods.inputs import BOX_SIDE
from jaxseg_xai.explainers.ate.ate import Ate
from jaxseg_xai.explainers.ate.gradient import AteGradient
from jaxseg_xai.metrics.screening import compare_with_random_screen, recall_of_screen
from jaxseg_xai.models import Bundle

GRADIENTS = {"gradient 1 node": AteGradient(), "gradient 8 nodes": AteGradient(num_nodes=8)}
#: Shares of the blocks: the gradients' largest, besides as many as the random screen's cost allows.
_BUDGETS = (0.1, 0.25, 0.5)
_PATCHES, _QUICK_PATCHES, _SCREEN = 50, 10, 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScreenCase(AteCase):
    """The exact ATE, the random screen's effects and the gradients, on the same images."""

    has_peers: bool = False
    split_lanes: bool = True  # of the gradients

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        # One draw for each of the gradients' fields comes first: with the random screen's, none of
        # them is among those of the exact ATE, which would make either screen look better.
        fields = max(gradient.num_fields for gradient in GRADIENTS.values())
        more = dataclasses.replace(explainer, num_screen=fields)
        inputs = super().prepare(settings, bundle, more)["ours"][1]
        draws = inputs.draws
        exact = inputs.replace(draws=draws._replace(screen=draws.screen[..., :0]))
        gradients = {f"ours, {name}": (form, inputs) for name, form in GRADIENTS.items()}
        return {"ours": (explainer, exact)} | gradients

    def figures(self, ran: Ran) -> dict[str, Any]:
        """Also the tables; of ours, an intervention costs its windows, a gradient whole passes."""
        columns, explainer = _values(ran), ran.main.explainer
        plan = plan_of(ran.main.bundle, ran.settings.size, explainer.block_size, BOX_SIDE)
        weights = {"screen": 1.0, "screen, incremental": plan.flops / plan.dense_flops}
        tables = {name: _table(columns, explainer, weight) for name, weight in weights.items()}
        figures = super().figures(ran)
        figures["work"].pop("explanations", None)  # screens, not explanations
        return figures | {"series": tables}

    def validate(self, ran: Ran, mesh: Mesh) -> Validation:
        """Also: a path integral comes nearer to O(z) - O(x) than first order."""
        found = {name: ran.results[f"ours, {name}"] for name in GRADIENTS}
        first, path = (float(np.mean(one.scores["completeness_gap"])) for one in found.values())
        gap = judge(
            Bound("completeness gap of 8 nodes, points", path, first),
            why="a path integral comes nearer to the difference than first order",
        )
        verdicts = {"exact": super().validate(ran, mesh)}
        verdicts |= {name: explained(one) for name, one in found.items()}
        verdict = all_of(verdicts if gap.passed else verdicts | {"completeness": gap})
        figures = {gap.unit: path, f"{gap.unit} (at most)": first}
        return dataclasses.replace(verdict, measured=verdict.measured | figures)


def _values(ran: Ran) -> list[np.ndarray]:
    """Exact ATE, gradients and effects of the screening patches: for each image, each [blocks]."""
    exact, side = ran.main, ran.main.explainer.block_size
    none, blocks = exact.inputs.draws, exact.inputs.blocks
    drawn = ran.ours["ours, gradient 1 node"].inputs.draws
    # Without a threshold the ATE of one patch is that patch's effect.
    bare, ones = dataclasses.replace(exact.explainer, threshold=0.0), drawn.screen
    few = [none._replace(full=ones[..., s : s + 1]) for s in range(_SCREEN)]
    inputs = [exact.inputs.replace(draws=one) for one in few]
    effect = Ours(exact.kind, bare, exact.bundle, inputs[0], exact.mesh)
    effects = [effect.compiled(*effect.placed(one)) for one in inputs]
    found = [*ran.results.values(), *effects]
    maps = np.stack([np.asarray(one.attribution)[:, ::side, ::side] for one in found])
    return [maps[:, i, chosen] for i, chosen in enumerate(blocks)]


def _table(images: Sequence[np.ndarray], ate: Ate, weight: float) -> list[Row]:
    """Means over images whose blocks' values are given; see `_points`."""
    points = [_points(values, ate, weight) for values in images]
    names = ("cost in forward passes", "share of the blocks", "recall")
    rows: list[Row] = []
    for screen in points[0]:
        means = np.ma.masked_invalid([p[screen] for p in points]).mean(axis=0).tolist()  # None: all
        rows.append({"screen": screen, **dict(zip(names, means, strict=True))})
    return rows


def _points(values: np.ndarray, ate: Ate, weight: float) -> dict[str, tuple[float, float, float]]:
    """Screen -> cost, share of the blocks that get interventions, recall (NaN: of no block).

    `values`: exact ATE, gradients, effects of the screening patches, each [n] in points.
    An intervention costs `weight` forward passes.
    """
    exact, gradients, effects = np.split(values, [1, 1 + len(GRADIENTS)])
    all_blocks = float(exact.size * ate.num_patches * weight)
    significant = float(np.mean(np.abs(exact) >= ate.threshold))
    points: dict[str, tuple[float, float, float]] = {"none": (all_blocks, 1.0, 1.0)}
    points["perfect"] = (significant * all_blocks, significant, 1.0)
    for (name, form), gradient in zip(GRADIENTS.items(), gradients, strict=True):
        # Forward passes: one backward pass counts as two; each field's outcome is computed too.
        slopes = 1 if form.num_nodes == 1 else form.num_nodes * form.num_fields
        passes = 3 * slopes + form.num_fields
        same = compare_with_random_screen(
            gradient,
            effects.T,
            exact[0],
            gradient_cost=passes / weight,
            num_patches=ate.num_patches,
            threshold=ate.threshold,
        )
        random = (same.cost * weight, same.random_share, same.random_recall)
        points[f"{_SCREEN} random patches"] = random
        shares = [int(b * exact.size) / exact.size for b in _BUDGETS]  # whole blocks
        recalls = recall_of_screen(gradient, exact[0], shares, threshold=ate.threshold).tolist()
        labels = [f"{b:.0%} of the blocks" for b in _BUDGETS] + ["at the random screen's cost"]
        pairs = [*zip(shares, recalls, strict=True), (same.gradient_share, same.gradient_recall)]
        for budget, (share, recall) in zip(labels, pairs, strict=True):
            points[f"{name}, {budget}"] = (passes + share * all_blocks, share, recall)
    return points


SCREEN = ScreenCase(
    name="ate-screen",
    about="the ATE's gradient and PdCR's random patches as screens for the exact ATE",
    defaults=Settings(model="reference", size=128, lanes=2),
    quick=Settings(model="triangle", size=64, lanes=2),
    explainer=Ate(num_screen=0, num_patches=_PATCHES, region_side=BOX_SIDE),
    shorter={"num_patches": _QUICK_PATCHES},
    flops_of="convolutions and products in the windows of every intervention of the exact ATE, "
    "and a forward pass per image",
    references=("ate", "ate_gradient", "ate_gradient_path"),
)
