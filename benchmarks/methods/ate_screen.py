"""Which blocks deserve exact interventions: the ATE's gradient as a screen, and PdCR's random one.

The truth is the ATE without any screening. Each screen's cost stands beside its recall: the share
of the blocks with |ATE| >= threshold that it lets through.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.cases import base, checks
from benchmarks.cases.ate import even, frozen
from benchmarks.cases.attribution import TOLERANCES, moved_by_rounding
from benchmarks.flips import bundle_logits
from benchmarks.inputs import (
    ROI_SIDE,
    choose_images,
    frozen_batch,
    make_batch,
    make_pool,
    open_model,
)
from benchmarks.machine import peak_memory
from benchmarks.peers.results import AttributionResult
from benchmarks.record import Measurement, Row
from benchmarks.references import GRADIENT_FORMS, load_gradient
from benchmarks.settings import Settings
from benchmarks.timing import compile_apart, interleave
from benchmarks.validation import Validation
from jaxseg_xai.core.types import Status
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers import Ate, AteGradient, IntegratedGradients, explain
from jaxseg_xai.incremental import make_plan
from jaxseg_xai.metrics.screening import compare_with_random_screen, recall_of_screen
from jaxseg_xai.models.bundle import load_model
from jaxseg_xai.ops.blocks import any_in_block
from jaxseg_xai.ops.patches import PatchPool

GRADIENTS = {"gradient 1 node": AteGradient(), "gradient 8 nodes": AteGradient(num_nodes=8)}
#: Shares of the blocks: the gradients' largest, besides as many as the random screen's cost allows.
_BUDGETS = (0.1, 0.25, 0.5)
_PATCHES, _QUICK_PATCHES, _SCREEN = 50, 10, 3


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """The exact ATE, the random screen's effects and the gradients, on the same images."""
    num_patches = _QUICK_PATCHES if settings.quick else _PATCHES
    ate = Ate(num_screen=0, num_patches=num_patches, region_side=ROI_SIDE)
    bundle, side, box = open_model(settings), ate.block_size, (ROI_SIDE, ROI_SIDE)
    images, classes = choose_images(bundle, settings, settings.lanes)
    pool = make_pool(bundle, settings, side)
    batch = make_batch(bundle, images, classes, explainer="ate", pool=pool)
    # One draw for each of the gradients' fields comes first: with the random screen's, none of
    # them is among those of the exact ATE, which would make either screen look better.
    fields = max(gradient.num_fields for gradient in GRADIENTS.values())
    drawn = dataclasses.replace(ate, num_screen=fields).draw(batch)
    draws = drawn._replace(screen=drawn.screen[..., :0])
    outside = np.stack([~any_in_block(r, side) for r in batch.targets.region])
    blocks = np.array([even(o, settings.blocks or o.size) for o in outside])

    inputs = replicate((bundle.variables, batch.images, batch.targets, draws), mesh)
    exact = jax.jit(functools.partial(ate.explain, bundle.predict, mesh=mesh))
    compiled, compile_seconds = compile_apart(exact, *inputs, blocks=blocks)
    contenders: dict[str, Callable[[], Any]] = {"ours": lambda: compiled(*inputs, blocks=blocks)}
    for name, form in GRADIENTS.items():
        program, seconds = compile_apart(
            explain, form, inputs[0], batch, predict=bundle.predict, mesh=mesh
        )
        compile_seconds += seconds
        contenders[f"ours, {name}"] = lambda p=program, f=form: p(f, inputs[0], batch)
    timings, results = interleave(contenders, base.pace(settings))

    # Without a threshold the ATE of one patch is that patch's effect.
    bare = dataclasses.replace(ate, threshold=0.0)
    effect = jax.jit(functools.partial(bare.explain, bundle.predict, mesh=mesh))
    ones = [draws._replace(full=drawn.screen[..., s : s + 1]) for s in range(_SCREEN)]
    effects = [effect(*inputs[:3], one, blocks=blocks) for one in ones]
    found = [*results.values(), *effects]
    maps = np.stack([np.asarray(f.attribution)[:, ::side, ::side] for f in found])
    columns = [maps[:, i, chosen] for i, chosen in enumerate(blocks)]
    model = (bundle.predict, bundle.variables)
    plan = make_plan(*model, images.shape[1:], block=(side, side), region=box, num_patches=1)
    interventions = float(np.sum(results["ours"].scores["num_interventions"]))
    share = plan.flops / plan.dense_flops
    return Measurement(
        compile_seconds=compile_seconds,
        timings=timings,
        work={"interventions": interventions, "blocks": float(blocks.sum())},
        flops=float(plan.flops * interventions + plan.dense_flops * settings.lanes),
        flops_of="convolutions and products in the windows of every intervention of the exact ATE, "
        "and a forward pass per image",
        memory=peak_memory(compiled, mesh),
        validation=_validate(settings, mesh, found),
        series={
            "screen": _table(columns, ate, 1.0),
            # Ours: an intervention costs its windows only, a gradient still whole passes.
            "screen, incremental": _table(columns, ate, share),
        },
    )


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
        cost = same.cost * weight
        points[f"{_SCREEN} random patches"] = (cost, same.random_share, same.random_recall)
        shares = [int(b * exact.size) / exact.size for b in _BUDGETS]  # whole blocks
        recalls = recall_of_screen(gradient, exact[0], shares, threshold=ate.threshold).tolist()
        labels = (f"{b:.0%} of the blocks" for b in _BUDGETS)
        budgets = dict(zip(labels, zip(shares, recalls, strict=True), strict=True))
        budgets["at the random screen's cost"] = (same.gradient_share, same.gradient_recall)
        for budget, (share, recall) in budgets.items():
            points[f"{name}, {budget}"] = (passes + share * all_blocks, share, recall)
    return points


def _validate(settings: Settings, mesh: Mesh, found: Sequence[Any]) -> Validation:
    """The frozen references; and a path integral comes nearer to O(z) - O(x) than first order."""
    if any(np.any(np.asarray(one.status) != Status.OK) for one in found):
        return checks.failed("an image has a status other than OK")
    gaps = [float(np.mean(one.scores["completeness_gap"])) for one in found[1:3]]
    forms = list(GRADIENT_FORMS)[-1:] if settings.quick else GRADIENT_FORMS
    gradients = {name: frozen_gradient(settings, mesh, name) for name in forms}
    verdict = checks.all_of({**frozen(settings, mesh), **gradients})
    what = "completeness gap of 8 nodes, points"
    measured = verdict.measured | {what: gaps[1], f"{what} (at most)": gaps[0]}
    passed = verdict.passed and gaps[1] <= gaps[0]
    return dataclasses.replace(verdict, passed=passed, measured=measured)


def frozen_gradient(settings: Settings, mesh: Mesh, name: str) -> Validation:
    """Our gradient form `name` of the images of its frozen reference, against it."""
    reference = load_gradient(name)
    bundle = load_model(reference.model, dtype=settings.dtype)
    nobody = np.full(len(reference.patches), len(reference.images), np.uint32)
    pool = PatchPool(patches=reference.patches, sources=nobody)

    def run(images: np.ndarray) -> AttributionResult:
        batch = frozen_batch(images, reference.targets, mesh, pool)
        found = explain(
            reference.settings, bundle.variables, batch, predict=bundle.predict, mesh=mesh
        )
        result = checks.images_of(AttributionResult.of(found, batch.targets), slice(len(images)))
        # A soft outcome has no segment that a pixel on the threshold could change.
        return dataclasses.replace(result, segment=reference.result.segment)

    ours = run(reference.images)
    tolerance = TOLERANCES[IntegratedGradients.name][settings.dtype]  # the same arithmetic
    if settings.dtype != "float32":
        why = f"{settings.dtype} keeps few bits: gradients are rough"
        return checks.compare_rough_maps(ours, reference.result, tolerance, why)
    return checks.compare_maps(
        ours,
        reference.result,
        bundle_logits(bundle),
        reference.images,
        reference.targets.class_index,
        moved_by_rounding(run, reference.images, ours),
        tolerance,
        "rounding that crosses kinks of ReLUs; a sign gives 2",
    )
