"""All interventions on one image, measured in all of its regions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import Array, Explanation, SegmentTarget, Status
from jaxseg_xai.explainers.ate.engine import Engine
from jaxseg_xai.explainers.ate.results import parts_of
from jaxseg_xai.explainers.ate.statistics import Sample
from jaxseg_xai.explainers.base import Problem
from jaxseg_xai.explainers.runner import all_finite, conclude, first_status
from jaxseg_xai.ops.blocks import any_in_block, split_blocks
from jaxseg_xai.ops.padding import own_pixels


def explain_image(
    screening: Engine,
    sampling: Engine,
    problem: Problem,
    patches: jax.Array,
    image: jax.Array,
    targets: SegmentTarget,
    screen: jax.Array,
    full: jax.Array,
    wanted: jax.Array,
    size: jax.Array | None = None,
    *,
    threshold: Array,
    block_size: int,
    confidence: float,
    sequential: bool,
) -> tuple[Explanation, jax.Array]:
    """Screen the blocks of an image, sample those that pass, and say what each region sees.

    To be called on every device of a `shard_map`.

    Args:
      screening: engine of the screening.
      sampling: engine of the full interventions.
      problem: the model and its weights.
      patches: float32 [P, *(b,), C].
      image: float32 [*S, C].
      targets: [R, ...], leaves [R, *S].
      screen: int32 [n, s], patches that screen each block.
      full: int32 [n, k], patches of the full interventions.
      wanted: bool [*G], the only blocks to intervene on.
      size: int32 [rank], of the image without its padding; or None.
      threshold: below it an effect is 0.
      block_size: side of a block in pixels.
      confidence: of the intervals.
      sequential: whether sampling a block stops once its effect is settled.

    Returns:
      (explanations [R, ...], interventions that were made: float32 []).
    """
    started = sampling.start(problem.variables, image, targets)
    inside = jnp.ones_like(wanted)
    if size is not None:
        own = own_pixels(size, image.shape[:-1])
        inside = any_in_block(own, block_size)
        wanted &= inside
        kept = split_blocks(image, block_size), split_blocks(own[..., None], block_size)
        started = dataclasses.replace(started, kept=kept)
    logits, fits = started.logits, started.fits
    sound = all_finite(image, logits)
    status = jax.vmap(first_status, (0, None))(targets, sound)
    usable = (status == Status.OK) & fits
    touched = jax.vmap(any_in_block, (0, None))(targets.region, block_size)
    free = jnp.any((inside & ~touched).reshape(len(fits), -1), axis=1)
    verdict = jnp.where(free, Status.OK, Status.NO_BLOCKS)
    verdict = jnp.where(fits, verdict, Status.REGION_TOO_LARGE).astype(jnp.int32)
    visited = (wanted & ~touched).reshape(len(fits), -1) & usable[:, None]
    # A block that cannot reach the box has no effect, and costs nothing.
    passed = visited & sampling.reachable(started).reshape(-1)
    made = jnp.where(passed, screen.shape[-1], 0)
    finite = jnp.ones_like(fits)
    if screen.shape[-1]:
        same = screening.share(started, problem.variables)
        screened = screening.sample(same, patches, passed, screen)
        finite = ~jnp.any(jnp.isnan(screened), axis=(1, 2))
        # Not "< threshold": what is not a number goes on, and shows in the mean.
        passed &= ~jnp.all(jnp.abs(screened) < threshold, axis=-1)
    if sequential:
        sample = sampling.sample_until_settled(
            started, patches, passed, full, threshold=threshold, confidence=confidence
        )
    else:
        count = jnp.where(passed, full.shape[-1], 0)
        sample = Sample(sampling.sample(started, patches, passed, full), count)
    # No effect on an outcome of 0 to 100 points spans more than 200.
    in_points = sampling.outcome.unit == "points"
    one_region = functools.partial(
        parts_of,
        threshold=threshold,
        block_size=block_size,
        confidence=confidence,
        widest=200.0 if in_points else float(jnp.finfo(jnp.float32).max),
    )
    parts = jax.vmap(one_region)(targets, sample, visited, verdict, finite, started.base)
    prediction = problem.segmenter.output.prediction(jnp.where(jnp.isfinite(logits), logits, 0.0))
    explained = jax.vmap(conclude, (0, None, None, 0))(targets, prediction, sound, parts)
    # A number whatever the status is: it says what the explanation cost.
    interventions = jnp.sum(made + sample.count, axis=1).astype(jnp.float32)
    scores = {**explained.scores, "num_interventions": interventions}
    # A block's come in the same order for all regions: the most of one are those of any.
    evaluated = jnp.sum(jnp.max(made, axis=0) + jnp.max(sample.count, axis=0))
    return dataclasses.replace(explained, scores=scores), evaluated.astype(jnp.float32)
