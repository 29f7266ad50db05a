"""What MiSuRe's settings buy: the area that is left, the objective, the iterations, the seconds."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.sharding import Mesh

from benchmarks.cases import base, misure
from benchmarks.inputs import choose_images, make_batch, open_model
from benchmarks.machine import peak_memory
from benchmarks.peers.results import MisureResult
from benchmarks.record import Measurement, Row
from benchmarks.settings import Settings
from benchmarks.timing import compile_apart, interleave
from jaxseg_xai.explainers import Batch, MisurePaper, explain
from jaxseg_xai.parallel.mesh import replicate

#: Hard Dice at which a mask counts as sufficient (the method's own tau).
SUFFICIENT = 0.9
#: The first is the library's default. The loss has the same weights in all, so that the objectives
#: compare.
VARIANTS = {
    "ours": MisurePaper(),
    "ours, 25 larger steps": MisurePaper(num_iterations=25, learning_rate=0.04),
    "ours, mask of 2x2 pixels": MisurePaper(mask_stride=2),
}
#: With --quick: a look at whether it runs, not at the quality.
_QUICK_SHARE = 0.05
_PEER_IMAGES = 4


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Every variant, and the peers with the default settings, on the same images."""
    bundle = open_model(settings)
    images, classes = choose_images(bundle, settings, settings.lanes)
    batch = make_batch(bundle, images, classes, explainer="misure_paper")
    variables = replicate(bundle.variables, mesh)
    variants = {name: _shortened(v) if settings.quick else v for name, v in VARIANTS.items()}
    contenders: dict[str, Callable[[], Any]] = {}
    programs, compile_seconds = {}, 0.0
    for name, variant in variants.items():
        programs[name], seconds = compile_apart(
            explain, variant, variables, batch, predict=bundle.predict, mesh=mesh
        )
        compile_seconds += seconds
        contenders[name] = lambda n=name, v=variant: programs[n](v, variables, batch)
    contenders |= misure.peers_of(settings, bundle, batch, variants["ours"], _PEER_IMAGES)
    timings, results = interleave(
        contenders, settings.repetitions, peer_seconds=base.peer_seconds(settings)
    )

    sample = misure.peer_sample(settings, _PEER_IMAGES)
    table = []
    for name in contenders:
        variant = variants.get(name, variants["ours"])
        scale = sample[name].scale if name in sample else 1.0
        seconds = timings[name].median * scale / settings.lanes
        table.append(_row(name, variant, results[name], batch, seconds))
    dilations = float(np.sum(results["ours"].scores["num_dilations"]))
    return Measurement(
        compile_seconds=compile_seconds,
        timings=timings,
        work={"explanations": float(settings.lanes)},
        flops=misure.flops(variants["ours"], bundle, batch, dilations),
        flops_of=misure.FLOPS_OF,
        memory=peak_memory(programs["ours"], mesh),
        ratios=base.ratios(timings, {name: s.scale for name, s in sample.items()}),
        peer_sample=sample,
        validation=misure.validate(settings, mesh, bundle, batch, variants["ours"], results),
        series={"quality": table},
    )


def _row(name: str, variant: MisurePaper, found: Any, batch: Batch, seconds: float) -> Row:
    """One line of the table, from an explanation of ours or from a peer's result."""
    result = found
    if name.startswith("ours"):
        result = MisureResult.of(found, batch.targets)
    area = result.mask.sum(axis=(1, 2)) / result.segment.sum(axis=(1, 2))
    enough = result.dice_minimal >= SUFFICIENT
    return {
        "who": name,
        "iterations": float(variant.num_iterations),
        "images": float(len(area)),
        f"share with Dice >= {SUFFICIENT}": float(enough.mean()),
        "their area / object": float(area[enough].mean()) if enough.any() else None,
        "Dice": float(np.mean(result.dice_minimal)),
        # Before the last step, which all of them record.
        "objective": float(np.mean(result.loss[:, -1])),
        "seconds / image": seconds,
    }


def _shortened(variant: MisurePaper) -> MisurePaper:
    few = max(2, round(variant.num_iterations * _QUICK_SHARE))
    return dataclasses.replace(variant, num_iterations=few)
