"""What MiSuRe's settings buy, and how busy its lanes are."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.verdict import Bound, Validation, all_of, judge
from benchmarks.harness.record import Row
from benchmarks.harness.settings import Settings
from benchmarks.methods.base import MethodCase, Prepared, Ran, images_done
from benchmarks.methods.misure import MisureCase, seconds_of
from jaxseg_xai.devices.lanes import LaneUse, run_lanes
from jaxseg_xai.explainers.misure.paper import MisurePaper
from jaxseg_xai.explainers.misure.search import Misure
from jaxseg_xai.models import Bundle

#: Hard Dice at which a mask counts as sufficient (the method's own tau).
SUFFICIENT = 0.9
_PAPER = "ours, paper"
#: The peers have the settings of "ours, paper", and "ours" is the library's default.
VARIANTS: dict[str, Misure | MisurePaper] = {
    "ours": Misure(),
    "ours, 12 iterations": Misure(num_iterations=12),
    "ours, 25 iterations": Misure(num_iterations=25),
    _PAPER: MisurePaper(),
    "ours, paper, 25 larger steps": MisurePaper(num_iterations=25, learning_rate=0.04),
}
#: Lanes of a device, and images that are explained once more without the others.
_LANES, _ALONE = 4, 2
#: Bound on a GPU, where products may be added up in any order; an H100 showed 1.4e-6.
_NOT_REPRODUCIBLE = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityCase(MisureCase):
    """Every variant, and the peers with the published loss, on the same images."""

    def prepare(self, settings: Settings, bundle: Bundle, explainer: Any) -> Prepared:
        _, inputs = super().prepare(settings, bundle, explainer)["ours"]
        chosen = VARIANTS
        if settings.quick:  # whether it runs, not the quality
            few = {name: VARIANTS[name] for name in ("ours", _PAPER)}
            chosen = {
                name: dataclasses.replace(one, num_iterations=one.num_iterations // 20)
                for name, one in few.items()
            }
        return {name: (variant, inputs) for name, variant in chosen.items()}

    def figures(self, ran: Ran) -> dict[str, Any]:
        """No ratios: "ours" is our search, the peers' is the published loss; the table has them."""
        seconds = seconds_of(ran)
        table = [_row(name, ran.results[name]) | seconds[name] for name in ran.ours]
        return {
            "work": {"explanations": float(ran.settings.lanes)},
            "flops": None,
            "flops_of": "",  # the iterations differ from image to image
            "ratios": {},
            "peer_sample": images_done(ran),
            "series": {"quality": table},
        }


def _row(name: str, found: Any) -> Row:
    """What is left where it is still sufficient.

    The mask may dim pixels; the region is its pixels above 0.5, whole.
    """
    scores = {key: np.asarray(value) for key, value in found.scores.items()}
    steps = scores["iterations"]
    row: Row = {"who": name, "iterations": float(steps.mean()), "images": float(len(steps))}
    region = "region" if "dice_region" in scores else "minimal"
    for kind, suffix in (("mask", "minimal"), ("region", region)):
        enough = scores[f"dice_{suffix}"] >= SUFFICIENT
        row[f"{kind}: share with Dice >= {SUFFICIENT}"] = float(enough.mean())
        # Where it is not sufficient the sufficient region of stage 1 is what one has.
        area = np.where(enough, scores[f"area_{suffix}"], scores["area_sufficient"])
        row[f"{kind}: area / object"] = float(area.mean())
    return row | {"Dice": float(scores["dice_minimal"].mean())}


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
        both = jax.device_get([(e.attribution, e.scores) for e in (ran.found, alone)])
        pairs = zip(*map(jax.tree.leaves, both), strict=True)
        off = [np.abs(np.nan_to_num(a[:_ALONE]) - np.nan_to_num(b[:_ALONE])) for a, b in pairs]
        tolerance = 0.0 if jax.default_backend() == "cpu" else _NOT_REPRODUCIBLE
        same = judge(
            Bound("attribution or score", float(max(np.max(o) for o in off)), tolerance),
            why=f"the first {_ALONE} images without the others: the same program, so the same "
            "bits; not on accelerators, which may add up in another order at every run",
        )
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


QUALITY = QualityCase(
    name="misure-quality",
    about="area, iterations and seconds of MiSuRe's settings",
    defaults=Settings(model="reference", size=128, lanes=8),
    quick=Settings(model="triangle", size=64, lanes=2),
    explainer=MisurePaper(),
    references=("misure", "misure_paper"),
    compared=_PAPER,
)
LANES = LanesCase(
    name="misure-lanes",
    about="how busy the lanes are with images that need different numbers of steps",
    defaults=Settings(model="triangle", size=64, lanes=256),
    quick=Settings(model="triangle", size=64, lanes=8),
    explainer=Misure(lanes=_LANES),
    shorter={"num_iterations": 10, "patience": 3},
    references=("misure",),
)
