"""What all forms of MiSuRe share: the prediction, stage 1, and the way through both stages."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.types import Array, Explanation, Predict, SegmentTarget, Status
from jaxseg_xai.devices.lanes import LaneUse, run_lanes
from jaxseg_xai.explainers.misure.windows import (
    View,
    WholeView,
    WindowView,
    first_holding,
)
from jaxseg_xai.incremental.crop import CroppedPredict
from jaxseg_xai.ops.dice import hard_dice, soft_dice
from jaxseg_xai.ops.dilation import dilate, ellipse


class Job(NamedTuple):
    """What stage 2 is about: one image and class, after stage 1.

    Attributes:
      image: float32 [H, W, C], normalised; 0 is the baseline.
      segment: bool [H, W], Y: the predicted pixels of the class in the region.
      layers: int32 [H, W], the dilation that reached a pixel: 0 on Y; large where none did.
      num_dilations: int32 []; M_SR is where `layers` is at most this.
      target: class and region.
    """

    image: jax.Array
    segment: jax.Array
    layers: jax.Array
    num_dilations: jax.Array
    target: SegmentTarget

    @property
    def sufficient(self) -> jax.Array:
        """M_SR, bool [H, W]."""
        return self.layers <= jnp.asarray(self.num_dilations)[..., None, None]


class Stage2(Protocol):
    """A search for the minimally sufficient region, as `run_lanes` takes it."""

    tau: float
    max_dilations: int
    element_size: int

    def start(self, job: Job) -> Any:
        """The state before the first step."""
        ...

    def step(self, predict_masked: Any, job: Job, state: Any) -> Any:
        """One forward and backward pass; `predict_masked`: mask [H, W] -> logits [H, W, K]."""
        ...

    def is_done(self, state: Any) -> jax.Array:
        """bool []."""
        ...

    def found(self, job: Job, state: Any) -> "Found":
        """What is kept of a job that is done."""
        ...

    def measure(
        self, predict_masked: Any, job: Job, mask: jax.Array, logits: jax.Array
    ) -> dict[str, jax.Array]:
        """Scores of its own for the mask that is shown, and the logits inside it."""
        ...


class Found(NamedTuple):
    """What stage 2 leaves of a job.

    Attributes:
      attribution: float32 [H, W] in [0, 1].
      mask: float32 [H, W] in [0, 1], what the image is multiplied by to look at the result.
      finite: bool [], whether every loss was.
      scores: name -> float32 [].
      traces: name -> float32 [num_iterations], NaN-padded.
    """

    attribution: jax.Array
    mask: jax.Array
    finite: jax.Array
    scores: dict[str, jax.Array]
    traces: dict[str, jax.Array]


def explain_jobs(
    search: Stage2,
    predict: Predict,
    variables: Any,
    images: jax.Array,
    targets: SegmentTarget,
    valid: jax.Array,
    *,
    lanes: tuple[int, int],
    crops: Sequence[CroppedPredict] = (),
) -> tuple[Explanation, LaneUse]:
    """Both stages for images [B, H, W, C] and targets [B, ...] on one device.

    Args:
      search: stage 2.
      predict: the model.
      variables: its weights.
      images: float32 [B, H, W, C].
      targets: [B, ...].
      valid: bool [B], which of them are to be explained.
      lanes: images at a time, in stage 1 and in windows, and in stage 2 on whole images.
      crops: windows, from `plan_windows`; each job takes the first that holds its mask, or the
        whole image.

    Returns:
      (explanations, leaves [B, ...]; how busy the lanes of stage 2 were).
    """
    chex.assert_rank(images, 4)
    chex.assert_shape(targets.region, images.shape[:3])
    labels, finite = lax.map(
        lambda image: _look(predict, variables, image), images, batch_size=lanes[0]
    )
    images = jnp.where(finite[:, None, None, None], images, 0.0)
    segments = (labels == targets.class_index[:, None, None]) & targets.region
    segments &= finite[:, None, None]
    something = jnp.any(segments, axis=(1, 2))

    # The whole image comes last: it holds every mask.
    views = [*(WindowView(crop, variables) for crop in crops), WholeView(predict, variables)]
    layers, trace = _sufficient_regions(
        search, views, images, segments, targets, valid & something, lanes[0]
    )
    num_dilations = jnp.sum(jnp.isfinite(trace), axis=1, dtype=jnp.int32) - 1
    num_dilations = jnp.maximum(num_dilations, 0)
    jobs = Job(images, segments, layers, num_dilations, targets)

    which = first_holding(views, jobs.sufficient, targets.region)
    parts = [
        _minimal_regions(
            search, view, jobs, valid & something & (which == number), lanes[number == len(crops)]
        )
        for number, view in enumerate(views)
    ]
    found, use = parts[0]
    for number, (more, further) in enumerate(parts[1:], start=1):
        mine = which == number
        found = jax.tree.map(functools.partial(_select, mine), more, found)
        use = LaneUse(use.useful + further.useful, use.total + further.total)

    def finish(example: tuple) -> Explanation:
        job, labels, trace, found, finite = example
        return _finish(search, views[-1], job, labels, trace, found, finite)

    return lax.map(finish, (jobs, labels, trace, found, finite), batch_size=lanes[0]), use


def dice_of(logits: jax.Array, target: SegmentTarget, segment: jax.Array) -> jax.Array:
    """Hard Dice of what logits [H, W, K] segment with Y; float32 []."""
    labels = jnp.argmax(logits, axis=-1)
    return hard_dice((labels == target.class_index) & target.region, segment)


def soft_misses(logits: jax.Array, job: Job) -> tuple[jax.Array, jax.Array]:
    """(1 - D_c, 1 - D_0): soft Dice of the class and of the rest in the region; float32 [] each."""
    probability = jnp.take(jax.nn.softmax(logits), job.target.class_index, axis=-1)
    region = job.target.region
    miss_c = 1 - soft_dice(probability * region, job.segment)
    miss_0 = 1 - soft_dice((1 - probability) * region, ~job.segment & region)
    return miss_c, miss_0


def _minimal_regions(
    search: Stage2, view: View, jobs: Job, wanted: jax.Array, num_lanes: int
) -> tuple[Found, LaneUse]:
    """Stage 2 of the wanted jobs, all seen through one view."""

    def start(number: jax.Array) -> tuple[Job, Any, Any]:
        job = jax.tree.map(lambda leaf: leaf[number], jobs)
        return job, view.place(job.sufficient, job.target.region), search.start(job)

    def step(lane: tuple[Job, Any, Any]) -> tuple[Job, Any, Any]:
        job, place, state = lane
        look = functools.partial(view.logits, place, job.image)
        return job, place, search.step(look, job, state)

    return run_lanes(
        start,
        step,
        lambda lane: search.is_done(lane[2]),
        lambda lane: search.found(lane[0], lane[2]),
        wanted,
        num_lanes=num_lanes,
    )


def _select(mine: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(mine.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _look(predict: Predict, variables: Any, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    logits = predict(variables, image[None])[0]
    finite = jnp.all(jnp.isfinite(image)) & jnp.all(jnp.isfinite(logits))
    labels = jnp.where(finite, jnp.argmax(logits, axis=-1), 0)
    return labels.astype(jnp.int32), finite


class _Growing(NamedTuple):
    """Stage 1 of a job.

    Attributes:
      layers: int32 [H, W], as in `Job`, so far.
      trace: float32 [max_dilations + 1], hard Dice after every dilation; NaN where there was none.
      dilations: int32 [], how many.
      stop: bool [], whether the last region that was looked at is the one.
    """

    layers: jax.Array
    trace: jax.Array
    dilations: jax.Array
    stop: jax.Array

    @property
    def mask(self) -> jax.Array:
        """The region to look at next."""
        return self.layers <= self.dilations[..., None, None]


def _sufficient_regions(
    search: Stage2,
    views: Sequence[View],
    images: jax.Array,
    segments: jax.Array,
    targets: SegmentTarget,
    wanted: jax.Array,
    num_lanes: int,
) -> tuple[jax.Array, jax.Array]:
    """Stage 1, a forward pass a step: (layers int32 [B, H, W], trace [B, max_dilations + 1]).

    Every job is seen through one view until its mask has outgrown it, and goes on in the next.
    """
    element, most = ellipse(search.element_size), search.max_dilations
    never = most + 1

    def begin(segment: jax.Array) -> _Growing:
        layers = jnp.where(segment, 0, never)
        return _Growing(layers, jnp.full(most + 1, jnp.nan), jnp.int32(0), jnp.bool(False))

    def go_on(view: View, growing: _Growing) -> _Growing:
        """Those that the view holds, until they stop or have outgrown it."""

        def holds(now: _Growing, region: jax.Array) -> jax.Array:
            return ~now.stop & view.holds(now.mask, region)

        def step(state: tuple[jax.Array, _Growing]) -> tuple[jax.Array, _Growing]:
            number, now = state
            image, segment, target = jax.tree.map(
                lambda leaf: leaf[number], (images, segments, targets)
            )
            mask, count = now.mask, now.dilations
            logits = view.logits(view.place(mask, target.region), image, mask)
            trace = now.trace.at[count].set(dice_of(logits, target, segment))
            stop = (trace[count] >= search.tau) | (count == most)
            grown = jnp.where(dilate(mask, element) & ~mask, count + 1, now.layers)
            layers = jnp.where(stop, now.layers, grown)
            return number, _Growing(layers, trace, jnp.where(stop, count, count + 1), stop)

        held = wanted & jax.vmap(holds)(growing, targets.region)
        further, _ = run_lanes(
            lambda number: (number, jax.tree.map(lambda leaf: leaf[number], growing)),
            step,
            lambda state: ~holds(state[1], targets.region[state[0]]),
            lambda state: state[1],
            held,
            num_lanes=num_lanes,
        )
        return jax.tree.map(functools.partial(_select, held), further, growing)

    growing = jax.vmap(begin)(segments)
    for view in views:
        growing = go_on(view, growing)
    ran = wanted[:, None]
    return (
        jnp.where(ran[..., None], growing.layers, never),
        jnp.where(ran, growing.trace, jnp.nan),
    )


def _finish(
    search: Stage2,
    view: View,
    job: Job,
    labels: jax.Array,
    trace: jax.Array,
    found: Found,
    finite: jax.Array,
) -> Explanation:
    """Look at what the model makes of the mask, and measure."""
    reached = trace[job.num_dilations] >= search.tau
    status = jnp.where(reached, Status.OK, Status.NOT_REACHED)
    status = jnp.where(jnp.any(job.segment), status, Status.EMPTY_TARGET)
    status = jnp.where(jnp.any(job.target.region), status, Status.EMPTY_REGION)
    status = jnp.where(finite, status, Status.NON_FINITE)
    usable = (status == Status.OK) | (status == Status.NOT_REACHED)
    # A huge weight overflows; clipping would hide it in the mask.
    status = jnp.where(usable & ~found.finite, Status.NON_FINITE, status)
    usable &= found.finite
    attribution, mask = (jnp.where(usable, m, 0.0) for m in (found.attribution, found.mask))
    look = functools.partial(view.logits, view.place(job.sufficient, job.target.region), job.image)
    logits = look(mask)
    masked_labels = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    area = jnp.sum(job.segment, dtype=jnp.float32)
    ring = job.sufficient & ~job.segment
    scores: dict[str, Array] = {
        "num_dilations": job.num_dilations.astype(jnp.float32),
        "dice_sufficient": trace[job.num_dilations],
        "dice_minimal": dice_of(logits, job.target, job.segment),
        "area_target": area,
        "area_sufficient": jnp.sum(job.sufficient) / area,
        "area_minimal": jnp.sum(mask) / area,
        "mask_inside": jnp.sum(attribution * job.segment) / area,
        "mask_outside": jnp.sum(attribution * ring) / jnp.maximum(jnp.sum(ring), 1),
        **found.scores,
        **search.measure(look, job, mask, logits),
    }
    return Explanation(
        attribution=attribution,
        status=status.astype(jnp.int32),
        scores=jax.tree.map(lambda score: jnp.where(usable, score, jnp.nan), scores),
        maps={
            "sufficient_region": job.sufficient & usable,
            "minimal_region": mask > 0.5,
            "prediction": labels,
            "masked_prediction": jnp.where(usable, masked_labels, 0),
        },
        traces={"dice": trace}
        | {name: jnp.where(usable, t, jnp.nan) for name, t in found.traces.items()},
    )
