"""MiSuRe at a fixed number of iterations: a forward and a backward pass each."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.cases import base, checks
from benchmarks.cost import flops_of
from benchmarks.flips import MisureDoubt, bundle_logits
from benchmarks.inputs import (
    choose_images,
    frozen_batch,
    make_batch,
    open_model,
    small_objects,
    whole_images,
)
from benchmarks.machine import peak_memory
from benchmarks.peers.results import MisureResult
from benchmarks.record import Measurement, PeerSample, Row
from benchmarks.references import load_misure
from benchmarks.settings import Settings
from benchmarks.timing import Timing, compile_apart, interleave
from benchmarks.validation import Validation, compare_stage_1
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.explainers import Batch, MisurePaper, explain
from jaxseg_xai.explainers.misure.stages import Job
from jaxseg_xai.explainers.misure.windows import (
    WholeView,
    WindowView,
    first_holding,
    plan_windows,
)
from jaxseg_xai.models.bundle import Bundle, load_model

_QUICK_ITERATIONS = 5
#: Of a large image.
_FEW_ITERATIONS = 20
#: Images that the one-at-a-time peer does.
_PEER_IMAGES = 2
#: Images that are compared with the peers'. AdamW amplifies rounding, on some images to percents of
#: the loss: only the iterations count that are stable in PyTorch.
_CHECKED_IMAGES = 2
FLOPS_OF = "forward and backward passes of stage 2; forward passes of stage 1, one a dilation"


def run(settings: Settings, mesh: Mesh) -> Measurement:
    """Both stages for `lanes` images."""
    bundle, misure = open_model(settings), MisurePaper()
    images, classes = choose_images(bundle, settings, settings.lanes)
    batch = make_batch(bundle, images, classes, explainer="misure_paper")
    return measure(settings, mesh, bundle, batch, misure)


def run_small_objects(settings: Settings, mesh: Mesh) -> Measurement:
    """The same for one small object in a large image, and fewer iterations.

    Also as if nothing were known of the regions, and without windows.
    """
    bundle = open_model(settings)
    images, regions = small_objects(bundle, settings, settings.lanes)
    ones = np.ones(settings.lanes, np.int32)
    batch = make_batch(bundle, images, ones, explainer="misure_paper", regions=regions)
    side = max(int(regions.any(axis).sum(axis=1).max()) for axis in (1, 2))
    misure = MisurePaper(num_iterations=_FEW_ITERATIONS, region_side=side)
    others = {
        "ours, all of the output": dataclasses.replace(misure, region_side=None),
        "ours, no windows": dataclasses.replace(misure, windows=()),
    }
    return measure(settings, mesh, bundle, batch, misure, others)


def measure(
    settings: Settings,
    mesh: Mesh,
    bundle: Bundle,
    batch: Batch,
    misure: MisurePaper,
    others: Mapping[str, MisurePaper] | None = None,
) -> Measurement:
    """Time and check MiSuRe of a batch; time (not in `--quick`) other settings of it, too."""
    if settings.quick:
        misure, others = dataclasses.replace(misure, num_iterations=_QUICK_ITERATIONS), None
    variables = replicate(bundle.variables, mesh)
    programs, compile_seconds = {}, 0.0
    contenders: dict[str, Callable[[], Any]] = {}
    for name, variant in {"ours": misure, **(others or {})}.items():
        programs[name], seconds = compile_apart(
            explain, variant, variables, batch, predict=bundle.predict, mesh=mesh
        )
        compile_seconds += seconds
        contenders[name] = lambda n=name, v=variant: programs[n](v, variables, batch)
    contenders |= peers_of(settings, bundle, batch, misure, _PEER_IMAGES)
    timings, results = interleave(contenders, base.pace(settings))
    sample = peer_sample(settings, _PEER_IMAGES)
    found = results["ours"]
    scales = {name: s.scale for name, s in sample.items()}
    share, table = seen_through_windows(bundle, misure, found, batch.targets)
    return Measurement(
        compile_seconds=compile_seconds,
        timings=timings,
        work={
            "explanations": float(settings.lanes),
            "iterations": float(settings.lanes * misure.num_iterations),
        },
        flops=flops(misure, bundle, batch, float(np.sum(found.scores["num_dilations"])), share),
        flops_of=FLOPS_OF,
        memory=peak_memory(programs["ours"], mesh),
        ratios=base.ratios(timings, scales),
        peer_sample=sample,
        validation=validate(settings, mesh, bundle, batch, misure, results),
        series={"windows": table, "settings": _seconds(settings, timings, scales)},
    )


def _seconds(
    settings: Settings, timings: Mapping[str, Timing], scales: Mapping[str, float]
) -> list[Row]:
    """Seconds an image of all who were timed, and over them those of the peers."""
    seconds = {n: t.median * scales.get(n, 1.0) / settings.lanes for n, t in timings.items()}
    return [
        {"who": who, "seconds / image": each}
        | {f"times faster than {peer}": seconds[peer] / each for peer in settings.peers}
        for who, each in seconds.items()
    ]


def seen_through_windows(
    bundle: Bundle, misure: MisurePaper, found: Any, targets: SegmentTarget
) -> tuple[float, list[Row]]:
    """Mean share of a dense step's FLOPs, and the windows that the images took."""
    regions = np.asarray(found.maps["sufficient_region"])
    channels = bundle.card.architecture_config().in_channels
    shape = (*regions.shape[1:], channels)
    crops = plan_windows(
        bundle.predict, bundle.variables, shape, misure.windows, misure.region_side
    )
    views = [
        *(WindowView(crop, bundle.variables) for crop in crops),
        WholeView(bundle.predict, bundle.variables),
    ]
    which = np.asarray(first_holding(views, jnp.asarray(regions), jnp.asarray(targets.region)))
    names = [*(str(crop.window[0]) for crop in crops), "whole image"]
    shares = np.array([*(crop.share for crop in crops), 1.0])
    counts = np.bincount(which, minlength=len(names))
    table: list[Row] = [
        {"window": name, "images": float(count), "share of the FLOPs": float(share)}
        for name, count, share in zip(names, counts, shares, strict=True)
    ]
    return float(shares[which].mean()), table


def flops(
    misure: MisurePaper, bundle: Bundle, batch: Batch, dilations: float, share: float = 1.0
) -> float | None:
    """FLOPs of MiSuRe of a batch whose images needed so many dilations in all.

    `share` is that of a pass in its window.
    """
    image, target = jax.tree.map(lambda leaf: leaf[0], (batch.images, batch.targets))
    iteration = step_flops(misure, bundle, image, target)
    forward = flops_of(bundle.predict, bundle.variables, image[None])
    if iteration is None or forward is None:
        return None
    # Forward passes besides: inside Y and after each dilation in the window (or a smaller one);
    # the prediction, of the mask and of its region on the whole image.
    lanes = len(batch.images)
    in_windows = lanes * misure.num_iterations * iteration + (lanes + dilations) * forward
    return in_windows * share + 3 * lanes * forward


def step_flops(
    misure: MisurePaper, bundle: Bundle, image: Any, target: SegmentTarget
) -> float | None:
    """FLOPs of one iteration on one image [H, W, C]."""

    def step(variables: Any, image: Any, target: SegmentTarget, state: Any) -> Any:
        job = some_job(image, target)
        look = functools.partial(WholeView(bundle.predict, variables).logits, None, image)
        return misure.step(look, job, state)

    state = jax.eval_shape(
        lambda image, target: misure.start(some_job(image, target)), image, target
    )
    return flops_of(step, bundle.variables, image, target, state)


def some_job(image: Any, target: SegmentTarget) -> Job:
    """Some job of the right shapes."""
    return Job(image, target.reference, jnp.zeros(image.shape[:2], jnp.int32), jnp.int32(0), target)


def peers_of(
    settings: Settings, bundle: Bundle, batch: Batch, misure: MisurePaper, num_images: int
) -> dict[str, Callable[[], Any]]:
    """The peers asked for; the one-at-a-time one does `num_images` of the batch."""
    if not settings.peers:
        return {}
    from benchmarks.peers import misure as peers

    model = base.peer_model(bundle)
    images, classes = np.asarray(batch.images), np.asarray(batch.targets.class_index)
    regions, few = np.asarray(batch.targets.region), slice(num_images)
    both: dict[str, Callable[[], Any]] = {
        "original": lambda: peers.explain_original(
            model, images[few], classes[few], misure, regions[few]
        ),
        "tuned": lambda: peers.explain_tuned(model, images, classes, misure, regions),
    }
    return {name: both[name] for name in settings.peers}


def peer_sample(settings: Settings, num_images: int) -> dict[str, PeerSample]:
    """What `peers_of` leaves out."""
    if "original" not in settings.peers or settings.lanes <= num_images:
        return {}
    what = f"the first {num_images} of {settings.lanes} images, one at a time"
    return {"original": PeerSample(what=what, scale=settings.lanes / num_images)}


def validate(
    settings: Settings, mesh: Mesh, bundle: Bundle, batch: Batch, misure: MisurePaper, results: Any
) -> Validation:
    """`results["ours"]` against those of the peers, on the images they did; ours when frozen.

    Stage 1 of our other settings must be the same, windows or not.
    """
    found = {"frozen reference": frozen(settings, mesh, misure.name)}
    found["status"] = checks.explained(results["ours"])
    ours = MisureResult.of(results["ours"], batch.targets)
    doubt = MisureDoubt(
        logits=bundle_logits(bundle),
        images=np.asarray(batch.images),
        class_indices=np.asarray(batch.targets.class_index),
        settings=misure,
    )
    for name, other in results.items():
        if name.startswith("ours, ") and settings.dtype == "float32":
            theirs = MisureResult.of(other, batch.targets)
            found[name] = compare_stage_1(ours, theirs, doubt)
    few = slice(_CHECKED_IMAGES)
    if settings.peers:
        from benchmarks.peers.misure import stable_iterations

        model = base.peer_model(bundle)
        regions = np.asarray(batch.targets.region)
        stable = stable_iterations(
            model, doubt.images[few], doubt.class_indices[few], misure, regions[few]
        )
        for name in settings.peers:
            same, expected = (checks.images_of(r, few) for r in (ours, results[name]))
            found[name] = checks.compare_misure(
                same, expected, doubt, settings.dtype, stable[: len(expected.mask)]
            )
    return checks.all_of(found)


def frozen(settings: Settings, mesh: Mesh, method: str) -> Validation:
    """Our MiSuRe, "misure" or "misure_paper", on the images of its frozen reference, against it."""
    reference = load_misure(method)
    bundle = load_model(reference.model, dtype=settings.dtype)
    targets = whole_images(reference.images, reference.class_indices)
    padded = frozen_batch(reference.images, targets, mesh)
    found = explain(reference.settings, bundle.variables, padded, predict=bundle.predict, mesh=mesh)
    ours = MisureResult.of(found, padded.targets)
    doubt = MisureDoubt(
        logits=bundle_logits(load_model(reference.model)),
        images=reference.images,
        class_indices=reference.class_indices,
        settings=reference.settings,
    )
    same = checks.images_of(ours, slice(len(reference.images)))
    return checks.compare_misure(same, reference.result, doubt, settings.dtype, reference.stable)
