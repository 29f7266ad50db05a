"""The ATE of four regions of an image in one pass, and of one region after the other."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.cases import base, checks
from benchmarks.cases.ate import even, verdict
from benchmarks.flips import AteDoubt, bundle_logits
from benchmarks.inputs import ROI_SIDE, choose_images, make_batch, make_pool, open_model
from benchmarks.machine import peak_memory
from benchmarks.peers.results import AteResult
from benchmarks.record import Measurement, Row, Timing
from benchmarks.settings import Settings
from benchmarks.timing import compile_apart, interleave
from benchmarks.validation import Validation
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers import Ate, Batch
from jaxseg_xai.explainers.ate.ate import Draws
from jaxseg_xai.incremental import make_plan
from jaxseg_xai.models.bundle import Bundle

#: Regions along each axis: the tiles of one square.
_TILES = 2
_ALONE = "ours, region by region"


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Blocks of `lanes` images; both ways make the same draws."""
    side = min(ROI_SIDE, settings.size // _TILES)
    # Quick: screening is one more program to compile, for each of the two.
    bundle, alone = open_model(settings), Ate(region_side=side)
    if settings.quick:
        alone = dataclasses.replace(alone, num_screen=0, num_patches=10)
    together = dataclasses.replace(alone, region_side=_TILES * side)
    images, classes = choose_images(bundle, settings, settings.lanes)
    pool = make_pool(bundle, settings, alone.block_size)
    batch = make_batch(bundle, images, classes, explainer="ate", pool=pool)
    batch = dataclasses.replace(batch, targets=_tiles(bundle, batch, side))
    draws = together.draw(batch)
    grid = alone.grid(*images.shape[1:3])
    # Those inside one region, too: they are outside of the others.
    blocks = np.array(
        [even(np.ones(grid, bool), settings.blocks or grid[0] * grid[1])] * len(images)
    )

    variables, images, targets, draws = replicate(
        (bundle.variables, batch.images, batch.targets, draws), mesh
    )
    each = [_region(targets, r) for r in range(_TILES**2)]
    programs, seconds = {}, {}
    for name, ate, target in (("ours", together, targets), (_ALONE, alone, each[0])):
        explain = jax.jit(functools.partial(ate.explain, bundle.predict, mesh=mesh))
        programs[name], seconds[name] = compile_apart(
            explain, variables, images, target, draws, blocks=blocks
        )

    def explained(name: str, target: SegmentTarget) -> Explanation:
        return programs[name](variables, images, target, draws, blocks=blocks)

    contenders: dict[str, Callable[[], Any]] = {
        "ours": lambda: explained("ours", targets),
        _ALONE: lambda: [explained(_ALONE, target) for target in each],
    }
    timings, results = interleave(contenders, base.pace(settings))

    found, wanted = jax.device_get((results["ours"], results[_ALONE]))
    evaluated = {
        "ours": float(found.scores["num_evaluated"][:, 0].sum()),
        _ALONE: float(sum(w.scores["num_interventions"].sum() for w in wanted)),
    }
    plans = {
        name: make_plan(
            bundle.predict,
            bundle.variables,
            images.shape[1:],
            block=(alone.block_size, alone.block_size),
            region=(box, box),
            num_patches=1,
        )
        for name, box in (("ours", _TILES * side), (_ALONE, side))
    }
    flops = {name: float(plan.flops * evaluated[name]) for name, plan in plans.items()}
    return Measurement(
        compile_seconds=seconds["ours"],
        timings=timings,
        work={
            "explanations": float(len(images) * len(each)),
            "interventions": evaluated["ours"],
            "blocks": float(blocks.sum()),
        },
        flops=flops["ours"] + float(plans["ours"].dense_flops * len(images)),
        flops_of="convolutions and products in the windows of every intervention of the one pass, "
        "and a forward pass per image",
        memory=peak_memory(programs["ours"], mesh),
        validation=_validate(settings, bundle, batch, draws, found, wanted),
        series={"regions": _table(timings, evaluated, flops)},
    )


def _tiles(bundle: Bundle, batch: Batch, side: int) -> SegmentTarget:
    """Targets [B, R, ...]: squares side by side, around the region of a batch [B, ...].

    Each with the class that the model finds most of in it: a Dice of few pixels would make much
    of every one that rounding flips.
    """
    predict, found = jax.jit(bundle.predict), []
    for image, region in zip(batch.images, batch.targets.region, strict=True):
        labels = np.argmax(predict(bundle.variables, image[None])[0], axis=-1)
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
    leading = (len(batch.images), _TILES**2)
    return jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape[1:]), stacked)


def _region(targets: SegmentTarget, region: int) -> SegmentTarget:
    return jax.tree.map(lambda leaf: leaf[:, region], targets)


def _table(
    timings: Mapping[str, Timing], evaluated: Mapping[str, float], flops: Mapping[str, float]
) -> list[Row]:
    """A line for each way: how much less the one pass does."""
    return [
        {
            "who": name,
            "interventions evaluated": evaluated[name],
            "over one pass's": evaluated[name] / max(evaluated["ours"], 1.0),
            "FLOPs, over one pass's": flops[name] / max(flops["ours"], 1.0),
            "seconds, over one pass's": timing.median / timings["ours"].median,
        }
        for name, timing in timings.items()
    ]


def _validate(
    settings: Settings,
    bundle: Bundle,
    batch: Batch,
    draws: Draws,
    found: Explanation,
    wanted: list[Explanation],
) -> Validation:
    """Every region of every image, in one pass against alone."""
    if any(np.any(one.status != Status.OK) for one in (found, *wanted)):
        return checks.failed("a region has a status other than OK")
    verdicts = {}
    for i, image in enumerate(np.asarray(batch.images)):
        own = Draws(draws.patches, draws.screen[i : i + 1], draws.full[i : i + 1])
        for r, alone in enumerate(wanted):
            doubt = AteDoubt(
                logits=bundle_logits(bundle),
                image=image,
                target=jax.tree.map(lambda leaf, i=i, r=r: leaf[i, r], batch.targets),
                draws=own,
                settings=Ate(),
                margin=checks.FLIP_MARGINS[settings.dtype],
            )
            one = jax.tree.map(lambda leaf, r=r: leaf[:, r], found)
            expected = AteResult.of(alone, i, Ate.block_size)
            verdicts[f"region {r} of image {i} alone"] = verdict(one, i, expected, doubt)
    return checks.all_of(verdicts)
