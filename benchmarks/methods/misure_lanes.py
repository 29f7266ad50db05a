"""How busy MiSuRe's lanes are when images need different numbers of steps."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.cases import base, checks, misure
from benchmarks.inputs import choose_images, make_batch, open_model
from benchmarks.machine import peak_memory
from benchmarks.record import Measurement, Row
from benchmarks.settings import Settings
from benchmarks.timing import compile_apart, interleave
from benchmarks.validation import Validation
from jaxseg_xai.core.types import Explanation, Predict
from jaxseg_xai.devices.lanes import LaneUse
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers import Batch, Misure

#: Lanes of a device.
_LANES = 4
#: Bound on a GPU, where products may be added up in any order; an H100 showed 1.4e-6.
_NOT_REPRODUCIBLE = 1e-5
#: Images that are explained once more, without the others.
_ALONE = 2


@functools.partial(jax.jit, static_argnames=("predict", "mesh"))
def _explain(
    misure: Misure, variables: Any, batch: Batch, *, predict: Predict, mesh: Mesh
) -> tuple[Explanation, LaneUse]:
    return misure.explain_batch_counting(predict, variables, batch, mesh)


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Our default MiSuRe, which ends by itself, of many images in few lanes."""
    bundle, search = open_model(settings), Misure(lanes=_LANES)
    if settings.quick:
        search = dataclasses.replace(search, num_iterations=10, patience=3)
    images, classes = choose_images(bundle, settings, settings.lanes)
    batch = make_batch(bundle, images, classes, explainer="misure")
    variables = replicate(bundle.variables, mesh)
    compiled, compile_seconds = compile_apart(
        _explain, search, variables, batch, predict=bundle.predict, mesh=mesh
    )
    timings, results = interleave(
        {"ours": lambda: compiled(search, variables, batch)}, base.pace(settings)
    )
    found, use = jax.device_get(results["ours"])
    few = dataclasses.replace(batch, valid=np.arange(settings.lanes) < _ALONE)
    alone, _ = jax.device_get(compiled(search, variables, few))
    steps = found.scores["iterations"]
    return Measurement(
        compile_seconds=compile_seconds,
        timings=timings,
        work={"explanations": float(settings.lanes), "iterations": float(steps.sum())},
        flops=None,  # the iterations differ from image to image
        flops_of="",
        memory=peak_memory(compiled, mesh),
        ratios=base.ratios(timings, {}),
        peer_sample={},
        validation=checks.all_of(
            {
                "the first images alone": _same(found, alone),
                "frozen reference": misure.frozen(settings, mesh, Misure.name),
                "status": checks.explained(found),
            }
        ),
        series={"lanes": [_row(steps, use, mesh.size)]},
    )


def _row(steps: np.ndarray, use: LaneUse, num_devices: int) -> Row:
    # Without refilling, lanes would start together and wait for the slowest of them.
    groups = [
        part[i : i + _LANES]
        for part in np.split(steps, num_devices)
        for i in range(0, len(part), _LANES)
    ]
    waiting = sum(group.max() * _LANES for group in groups)
    return {
        "lanes": float(_LANES * num_devices),
        "images": float(len(steps)),
        "steps, fewest": float(steps.min()),
        "steps, mean": float(steps.mean()),
        "steps, most": float(steps.max()),
        # A device that is done while another is not counts as idle.
        "busy": float(use.useful.sum() / (num_devices * use.total.max())),
        "busy without refilling": float(steps.sum() / waiting),
    }


def _same(found: Explanation, alone: Explanation) -> Validation:
    pairs = zip(*(jax.tree.leaves((e.attribution, e.scores)) for e in (found, alone)), strict=True)
    worst = max(
        float(np.max(np.abs(np.nan_to_num(a[:_ALONE]) - np.nan_to_num(b[:_ALONE]))))
        for a, b in pairs
    )
    tolerance = 0.0 if jax.default_backend() == "cpu" else _NOT_REPRODUCIBLE
    return Validation(
        max_abs_diff=worst,
        tolerance=tolerance,
        unit="attribution or score",
        passed=worst <= tolerance,
        flips=[],
        why=f"the first {_ALONE} images without the others: the same program, so the same bits; "
        "not on accelerators, which may add up in another order at every run",
        measured={},
    )
