"""PdCR's ATE: hundreds of blocks, up to 53 interventions on each, hard outcomes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.cases import base, checks
from benchmarks.flips import AteDoubt, bundle_logits
from benchmarks.inputs import ROI_SIDE, choose_images, make_batch, make_pool, open_model
from benchmarks.machine import peak_memory
from benchmarks.peers.results import AteResult
from benchmarks.record import Measurement, PeerSample
from benchmarks.references import load_ate
from benchmarks.settings import Settings
from benchmarks.timing import compile_apart, interleave
from benchmarks.validation import Validation, compare_ate
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers import Ate, Batch
from jaxseg_xai.explainers.ate.ate import Draws
from jaxseg_xai.incremental import Plan, make_plan
from jaxseg_xai.models.bundle import Bundle, load_model
from jaxseg_xai.ops.blocks import any_in_block

#: Evenly spaced blocks of the first image that the peers do: one that passes the screening costs
#: them 53 forward passes.
_PEER_BLOCKS, _QUICK_PEER_BLOCKS = 8, 4
#: The same where a block costs one.
_PEER_OCCLUSIONS = 256


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Blocks of `lanes` images; the peers do a sample of them."""
    return measure(settings, mesh, Ate(region_side=ROI_SIDE))


def run_occlusion(settings: Settings, mesh: Mesh) -> Measurement:
    """Every block is replaced by 0, once."""
    return measure(settings, mesh, Ate(perturbation="zero", region_side=ROI_SIDE))


def measure(settings: Settings, mesh: Mesh, ate: Ate) -> Measurement:
    """Time and check the ATE with these settings."""
    bundle = open_model(settings)
    images, classes = choose_images(bundle, settings, settings.lanes)
    pool = make_pool(bundle, settings, ate.block_size)
    batch = make_batch(bundle, images, classes, explainer="ate", pool=pool)
    draws = ate.draw(batch)
    outside = np.stack([~any_in_block(r, ate.block_size) for r in batch.targets.region])
    blocks = np.array([even(o, settings.blocks or o.size) for o in outside])
    sample = np.zeros_like(blocks)
    few = _QUICK_PEER_BLOCKS if settings.quick else _PEER_BLOCKS
    sample[0] = even(blocks[0], _PEER_OCCLUSIONS if ate.perturbation == "zero" else few)

    explain = jax.jit(functools.partial(ate.explain, bundle.predict, mesh=mesh))
    on_devices = replicate((bundle.variables, batch.images, batch.targets, draws), mesh)
    compiled, compile_seconds = compile_apart(explain, *on_devices, blocks=blocks)
    contenders: dict[str, Callable[[], Any]] = {
        "ours": lambda: compiled(*on_devices, blocks=blocks)
    }
    if settings.peers:
        contenders |= _peers(settings, bundle, batch, draws, sample[0], ate)
    timings, results = interleave(contenders, base.pace(settings))
    if settings.peers:
        results["ours on the sample"] = compiled(*on_devices, blocks=sample)

    made = np.asarray(results["ours"].scores["num_interventions"])
    interventions = float(made.sum())
    work = {"interventions": interventions, "blocks": float(blocks.sum())}
    if (blocks == outside).all():
        work["explanations"] = float(settings.lanes)
    plan = make_plan(
        bundle.predict,
        bundle.variables,
        images.shape[1:],
        block=(ate.block_size, ate.block_size),
        region=(ROI_SIDE, ROI_SIDE),
        num_patches=1,
    )
    passes = _forward_passes(ate, plan, batch.targets.region, blocks, made)
    some = f"{int(sample.sum())} evenly spaced"
    peer_sample = {
        name: PeerSample(
            what=f"{'all' if name == 'captum' else some} blocks of the first image; ours "
            f"{int(blocks.sum())}, and the peer's time is scaled by the forward passes it would "
            "make for them",
            scale=passes / results[name].num_interventions,
        )
        for name in contenders
        if name != "ours"
    }
    return Measurement(
        compile_seconds=compile_seconds,
        timings=timings,
        work=work,
        flops=float(plan.flops * interventions + plan.dense_flops * settings.lanes),
        flops_of="convolutions and products in the windows of every intervention, and a forward "
        "pass per image",
        memory=peak_memory(compiled, mesh),
        ratios=base.ratios(timings, {name: s.scale for name, s in peer_sample.items()}),
        peer_sample=peer_sample,
        validation=_validate(settings, mesh, bundle, batch, draws, ate, results),
        series={
            "flops": [
                {
                    "of a forward pass": float(plan.dense_flops),
                    "of an intervention": float(plan.flops),
                    "times fewer": plan.dense_flops / plan.flops,
                }
            ]
        },
    )


def _forward_passes(
    ate: Ate, plan: Plan, regions: np.ndarray, blocks: np.ndarray, made: np.ndarray
) -> float:
    """Forward passes of the published algorithm where we made `made` [B] interventions.

    It also screens the blocks that cannot reach the region, and that cost us nothing.
    """
    if ate.perturbation == "zero":
        return float(blocks.sum())
    total = 0.0
    for region, wanted, interventions in zip(regions, blocks, made, strict=True):
        rows, columns = (
            plan.reaches[axis][:, np.argmax(region.any(axis=1 - d))]
            for d, axis in enumerate(("y", "x"))
        )
        screened = ate.num_screen * np.sum(wanted & rows[:, None] & columns)
        total += ate.num_screen * np.sum(wanted) + interventions - screened
    return float(total)


def even(candidates: np.ndarray, count: int) -> np.ndarray:
    """`count` evenly spaced ones of the True entries of a bool array (all, if there are fewer)."""
    places = np.flatnonzero(candidates)
    count = min(count, len(places))
    chosen = np.zeros(candidates.size, bool)
    # Midpoints of equal stretches: neither end of the image is favoured.
    chosen[places[((np.arange(count) + 0.5) * len(places) / max(count, 1)).astype(int)]] = True
    return chosen.reshape(candidates.shape)


def _peers(
    settings: Settings, bundle: Bundle, batch: Batch, draws: Draws, sample: np.ndarray, ate: Ate
) -> dict[str, Callable[[], Any]]:
    from benchmarks.peers import pdcr, with_captum

    model, image = base.peer_model(bundle), np.asarray(batch.images[0])
    target, first = _first(batch.targets), _first_draws(draws)
    both: dict[str, Callable[[], Any]] = {
        "original": lambda: pdcr.ate_original(model, image, target, first, ate, sample),
        "tuned": lambda: pdcr.ate_tuned(model, image, target, first, ate, sample),
    }
    chosen = {name: both[name] for name in settings.peers}
    if ate.perturbation == "zero" and "original" in chosen and with_captum.has_captum():
        chosen["captum"] = lambda: with_captum.occlusion(model, image, target, ate, sample)
    return chosen


def _validate(
    settings: Settings,
    mesh: Mesh,
    bundle: Bundle,
    batch: Batch,
    draws: Draws,
    ate: Ate,
    results: Any,
) -> Validation:
    found = frozen(settings, mesh, "occlusion" if ate.perturbation == "zero" else "ate")
    doubt = AteDoubt(
        logits=bundle_logits(bundle),
        image=np.asarray(batch.images[0]),
        target=_first(batch.targets),
        draws=_first_draws(draws),
        settings=ate,
        margin=checks.FLIP_MARGINS[settings.dtype],
    )
    for name, expected in results.items():
        if isinstance(expected, AteResult):
            found[name] = verdict(results["ours on the sample"], 0, expected, doubt)
    return checks.all_of(found)


def frozen(settings: Settings, mesh: Mesh, name: str = "ate") -> dict[str, Validation]:
    """Our "ate" or "occlusion" of the images of the frozen reference, against it."""
    reference = load_ate(name)
    bundle = load_model(reference.model, dtype=settings.dtype)
    # In the box, as in the case itself: the windows that the region needs are under test, too.
    side = int(np.sqrt(reference.targets.region[0].sum()))
    ate = Ate(**{**dataclasses.asdict(reference.settings), "region_side": side})
    explain = jax.jit(functools.partial(ate.explain, bundle.predict, mesh=mesh))
    found = jax.device_get(
        explain(bundle.variables, reference.images, reference.targets, reference.draws)
    )
    exact = bundle_logits(load_model(reference.model))
    verdicts = {}
    for index, expected in enumerate(reference.results):
        image, target, draws = reference.one(index)
        doubt = AteDoubt(
            logits=exact,
            image=image,
            target=target,
            draws=draws,
            settings=reference.settings,
            margin=checks.FLIP_MARGINS[settings.dtype],
        )
        verdicts[f"frozen reference {index}"] = verdict(found, index, expected, doubt)
    return verdicts


def verdict(found: Explanation, index: int, expected: AteResult, doubt: AteDoubt) -> Validation:
    """Image `index` of our explanations of a batch against what is expected of it."""
    status = Status(int(found.status[index]))
    if status != Status.OK:
        return checks.failed(f"the status of image {index} is {status.name}")
    ours = AteResult.of(found, index, doubt.settings.block_size)
    return compare_ate(ours, expected, doubt)


def _first(targets: SegmentTarget) -> SegmentTarget:
    return jax.tree.map(lambda leaf: np.asarray(leaf[0]), targets)


def _first_draws(draws: Draws) -> Draws:
    return Draws(*(np.asarray(part) for part in (draws.patches, draws.screen[:1], draws.full[:1])))
