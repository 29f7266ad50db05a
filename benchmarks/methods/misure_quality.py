"""What MiSuRe's settings buy: the area that is left, the iterations, the seconds."""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.arrays import Inputs
from benchmarks.harness.record import Row
from benchmarks.harness.settings import Defaults, Settings
from benchmarks.methods.base import Ran, images_done
from benchmarks.methods.misure import MisureCase, seconds_of
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
#: With --quick: a look at whether it runs, not at the quality.
_QUICK_VARIANTS, _QUICK_SHARE = ("ours", _PAPER), 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityCase(MisureCase):
    """Every variant, and the peers with the published loss, on the same images."""

    def prepare(
        self, settings: Settings, bundle: Bundle, explainer: Any
    ) -> dict[str, tuple[Any, Inputs]]:
        _, inputs = super().prepare(settings, bundle, explainer)["ours"]
        if not settings.quick:
            return {name: (variant, inputs) for name, variant in VARIANTS.items()}
        return {name: (_shortened(VARIANTS[name]), inputs) for name in _QUICK_VARIANTS}

    def figures(self, ran: Ran) -> dict[str, Any]:
        seconds, table = seconds_of(ran), []
        for name in ran.ours:
            row = _row(name, ran.results[name], seconds[name])
            for peer in ran.settings.peers:
                row[f"times faster than {peer}"] = seconds[peer] / seconds[name]
            table.append(row)
        return {
            "work": {"explanations": float(ran.settings.lanes)},
            "flops": None,
            "flops_of": "",  # the iterations differ from image to image
            "ratios": {},  # "ours" is our search, the peers' the published loss: see the table
            "peer_sample": images_done(ran),
            "series": {"quality": table},
        }


def _row(name: str, found: Any, seconds: float) -> Row:
    """One line of the table: what is left where it is still sufficient.

    The mask may dim pixels; the region is its pixels above 0.5, whole.
    """
    scores = {key: np.asarray(value) for key, value in found.scores.items()}
    row: Row = {
        "who": name,
        "iterations": float(scores["iterations"].mean()),
        "images": float(len(scores["iterations"])),
    }
    region = "region" if "dice_region" in scores else "minimal"
    for kind, suffix in (("mask", "minimal"), ("region", region)):
        enough = scores[f"dice_{suffix}"] >= SUFFICIENT
        row[f"{kind}: share with Dice >= {SUFFICIENT}"] = float(enough.mean())
        # Where it is not sufficient the sufficient region of stage 1 is what one has.
        area = np.where(enough, scores[f"area_{suffix}"], scores["area_sufficient"])
        row[f"{kind}: area / object"] = float(area.mean())
    return row | {"Dice": float(scores["dice_minimal"].mean()), "seconds / image": seconds}


def _shortened(variant: Any) -> Any:
    few = max(2, round(variant.num_iterations * _QUICK_SHARE))
    return dataclasses.replace(variant, num_iterations=few)


QUALITY = QualityCase(
    name="misure-quality",
    about="area, iterations and seconds of MiSuRe's settings",
    defaults=Defaults(model="reference", size=128, lanes=8),
    quick=Defaults(model="triangle", size=64, lanes=2),
    explainer=MisurePaper(),
    references=("misure", "misure_paper"),
    compared=_PAPER,
)
