"""What MiSuRe's settings buy: the area that is left, the iterations, the seconds."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh

from benchmarks.cases import base, checks, misure
from benchmarks.inputs import choose_images, make_batch, open_model
from benchmarks.machine import peak_memory
from benchmarks.record import Measurement, Row
from benchmarks.settings import Settings
from benchmarks.timing import compile_apart, interleave
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers import Misure, MisurePaper, explain

#: Hard Dice at which a mask counts as sufficient (the method's own tau).
SUFFICIENT = 0.9
#: The peers have the settings of "ours, paper", and "ours" is the library's default.
VARIANTS: dict[str, Misure | MisurePaper] = {
    "ours": Misure(),
    "ours, 12 iterations": Misure(num_iterations=12),
    "ours, 25 iterations": Misure(num_iterations=25),
    "ours, paper": MisurePaper(),
    "ours, paper, 25 larger steps": MisurePaper(num_iterations=25, learning_rate=0.04),
}
#: With --quick: a look at whether it runs, not at the quality.
_QUICK_VARIANTS, _QUICK_SHARE = ("ours", "ours, paper"), 0.05
_PEER_IMAGES = 2


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Every variant, and the peers with the published loss, on the same images."""
    bundle = open_model(settings)
    images, classes = choose_images(bundle, settings, settings.lanes)
    batch = make_batch(bundle, images, classes, explainer="misure")
    variables = replicate(bundle.variables, mesh)
    variants = VARIANTS
    if settings.quick:
        variants = {name: _shortened(VARIANTS[name]) for name in _QUICK_VARIANTS}
    contenders: dict[str, Callable[[], Any]] = {}
    programs, compile_seconds = {}, 0.0
    for name, variant in variants.items():
        programs[name], seconds = compile_apart(
            explain, variant, variables, batch, predict=bundle.predict, mesh=mesh
        )
        compile_seconds += seconds
        contenders[name] = lambda n=name, v=variant: programs[n](v, variables, batch)
    paper = variants["ours, paper"]
    assert isinstance(paper, MisurePaper)
    contenders |= misure.peers_of(settings, bundle, batch, paper, _PEER_IMAGES)
    timings, results = interleave(contenders, base.pace(settings))

    published = misure.validate(
        settings, mesh, bundle, batch, paper, {**results, "ours": results["ours, paper"]}
    )
    sample = misure.peer_sample(settings, _PEER_IMAGES)
    seconds = {
        name: timing.median * (sample[name].scale if name in sample else 1.0) / settings.lanes
        for name, timing in timings.items()
    }
    table = []
    for name in variants:
        row = _row(name, results[name], seconds[name])
        for peer in settings.peers:
            row[f"times faster than {peer}"] = seconds[peer] / seconds[name]
        table.append(row)
    return Measurement(
        compile_seconds=compile_seconds,
        timings=timings,
        work={"explanations": float(settings.lanes)},
        flops=None,  # the iterations differ from image to image
        flops_of="",
        memory=peak_memory(programs["ours"], mesh),
        # No ratios: "ours" is our search, the peers' is the published loss; the table has them.
        peer_sample=sample,
        validation=checks.all_of(
            {
                "the published loss": published,
                "the search": misure.frozen(settings, mesh, Misure.name),
                "status": checks.explained(results["ours"]),
            }
        ),
        series={"quality": table},
    )


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
