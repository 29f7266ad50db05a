"""From images and targets to explanations: stage 1, stage 2, and what is measured of the result."""

import functools
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.devices.lanes import LaneUse, run_lanes, select_jobs
from jaxseg_xai.explainers.base import Parts
from jaxseg_xai.explainers.misure.stages import Found, Job, MaskedModel, Stage2, dice_of
from jaxseg_xai.explainers.misure.sufficient import sufficient_regions
from jaxseg_xai.explainers.misure.windows import View, WholeView, WindowView, first_holding
from jaxseg_xai.explainers.runner import all_finite, conclude
from jaxseg_xai.incremental.crop import CroppedPredict


def explain_jobs(
    search: Stage2,
    segmenter: Segmenter,
    variables: Any,
    images: jax.Array,
    targets: SegmentTarget,
    valid: jax.Array,
    sizes: jax.Array | None = None,
    *,
    num_lanes: int,
    forward_lanes: int,
    crops: Sequence[CroppedPredict] = (),
) -> tuple[Explanation, LaneUse]:
    """Both stages for a batch on one device.

    Args:
      search: stage 2.
      segmenter: the model.
      variables: its weights.
      images: float32 [B, *S, C].
      targets: leaves [B, ...].
      valid: bool [B], which of them are to be explained.
      sizes: int32 [B, rank], of the images without their padding, where no mask goes; or None.
      num_lanes: images at a time in stage 2, where the model sees whole images.
      forward_lanes: images at a time in stage 1, and in stage 2 in windows.
      crops: windows, from `plan_windows`; each job takes the first that holds its mask, or else the
        whole image.

    Returns:
      (explanations, leaves [B, ...]; how busy the lanes of stage 2 were).
    """
    chex.assert_equal_shape_prefix((images, targets.region, targets.reference), images.ndim - 1)
    output = segmenter.output

    def look(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = segmenter.logits(variables, image[None])[0]
        prediction = output.prediction(jnp.where(jnp.isfinite(logits), logits, 0.0))
        return prediction, all_finite(image, logits)

    # Only the prediction is kept: the logits of many classes would fill the memory.
    predictions, finite = lax.map(look, images, batch_size=forward_lanes)
    images = select_jobs(finite, images, jnp.zeros_like(images))
    wanted = valid & finite & jax.vmap(jnp.any)(targets.segment)

    # The whole image comes last: it holds every mask.
    views = [*(WindowView(crop, variables) for crop in crops), WholeView(segmenter, variables)]
    layers, trace = sufficient_regions(
        search, output, views, images, targets, wanted, forward_lanes, sizes
    )
    num_dilations = jnp.sum(jnp.isfinite(trace), axis=1, dtype=jnp.int32) - 1
    num_dilations = jnp.maximum(num_dilations, 0)
    jobs = Job(images, targets, layers, num_dilations, sizes)

    which = first_holding(views, jobs.sufficient, targets.region)
    lanes_of = [forward_lanes] * len(crops) + [num_lanes]
    searched = [
        _minimal_regions(search, output, view, jobs, wanted & (which == number), lanes)
        for number, (view, lanes) in enumerate(zip(views, lanes_of, strict=True))
    ]
    found, use = searched[0]
    for number, (more, further) in enumerate(searched[1:], start=1):
        found = jax.tree.map(functools.partial(select_jobs, which == number), more, found)
        use = LaneUse(use.useful + further.useful, use.total + further.total)

    def end(example: tuple) -> Explanation:
        job, trace, found, prediction, finite = example
        parts = _measure(search, output, views[-1], job, trace, found)
        return conclude(job.target, prediction, finite, parts)

    ends = (jobs, trace, found, predictions, finite)
    return lax.map(end, ends, batch_size=forward_lanes), use


def _minimal_regions(
    search: Stage2, output: Any, view: View, jobs: Job, wanted: jax.Array, num_lanes: int
) -> tuple[Found, LaneUse]:
    """Stage 2 of the wanted jobs, all seen through one view; leaves [B, num_searches, ...]."""
    count = search.num_searches

    def start(number: jax.Array) -> tuple[Job, Any, Any]:
        job = jax.tree.map(lambda leaf: leaf[number // count], jobs)
        location = view.locate(job.sufficient, job.target.region)
        return job, location, search.start(job, number % count)

    def step(lane: tuple[Job, Any, Any]) -> tuple[Job, Any, Any]:
        job, location, state = lane
        model = MaskedModel(functools.partial(view.logits, location, job.image), output)
        return job, location, search.step(model, job, state)

    found, use = run_lanes(
        start,
        step,
        lambda lane: search.is_done(lane[2]),
        lambda lane: search.found(lane[0], lane[2]),
        jnp.repeat(wanted, count),
        num_lanes=num_lanes,
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, count, *leaf.shape[1:]), found), use


def _measure(
    search: Stage2, output: Any, view: View, job: Job, trace: jax.Array, found: Found
) -> Parts:
    """Look once more at what the model makes of the mask, and measure."""
    location = view.locate(job.sufficient, job.target.region)
    model = MaskedModel(functools.partial(view.logits, location, job.image), output)
    found = search.together(model, job, found)
    segment, mask, attribution = job.target.segment, found.mask, found.attribution
    logits = model.logits(mask)
    area, explained = jnp.sum(segment, dtype=jnp.float32), jnp.any(segment)
    ring = job.sufficient & ~segment
    dice_sufficient = trace[job.num_dilations]
    return Parts(
        attribution=attribution,
        scores={
            "num_dilations": job.num_dilations.astype(jnp.float32),
            "dice_start": trace[0],
            # By trapezoids, over the dilations that were made: the padding is NaN.
            "dice_trace_area": jnp.nansum((trace[1:] + trace[:-1]) / 2),
            "dice_sufficient": dice_sufficient,
            "dice_minimal": dice_of(output, logits, job.target),
            "area_target": area,
            "area_sufficient": jnp.sum(job.sufficient) / area,
            "area_minimal": jnp.sum(mask) / area,
            "mask_inside": jnp.sum(attribution * segment) / area,
            "mask_outside": jnp.sum(attribution * ring) / jnp.maximum(jnp.sum(ring), 1),
            **found.scores,
            **search.measure(model, job, mask, logits),
        },
        maps={
            "sufficient_region": job.sufficient,
            "minimal_region": mask > 0.5,
            "masked_prediction": output.prediction(logits),
            **found.maps,
        },
        traces={"dice": trace, **found.traces},
        # A huge weight overflows, and clipping would hide it in the mask. (Without a segment there
        # was no search.)
        finite=found.finite | ~explained,
        status=jnp.where(dice_sufficient >= search.tau, Status.OK, Status.NOT_REACHED),
    )
