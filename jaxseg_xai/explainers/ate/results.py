"""What the effects of all blocks on one region say: the map, its intervals, counts and status."""

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import Array, Explanation, SegmentTarget, Status
from jaxseg_xai.explainers.ate import statistics
from jaxseg_xai.ops.blocks import grid_shape, paint_blocks

#: Inner edges of the histogram in Dice points; the threshold joins them as -t and t.
_EDGES = (-3.0, -1.0, -0.3, 0.3, 1.0, 3.0)


def first_status(
    image: jax.Array, logits: jax.Array, target: SegmentTarget, fits: jax.Array
) -> jax.Array:
    """Status [] of one region of an image before any intervention."""
    finite = jnp.all(jnp.isfinite(image)) & jnp.all(jnp.isfinite(logits))
    status = jnp.where(jnp.any(target.reference & target.region), Status.OK, Status.EMPTY_TARGET)
    status = jnp.where(fits, status, Status.REGION_TOO_LARGE)
    status = jnp.where(jnp.any(target.region), status, Status.EMPTY_REGION)
    return jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32)


def explanation_of(
    target: SegmentTarget,
    sample: statistics.Sample,
    visited: jax.Array,
    status: jax.Array,
    scores: dict[str, jax.Array],
    *,
    logits: jax.Array,
    threshold: Array,
    block_size: int,
    confidence: float,
) -> Explanation:
    """The explanation of one region from the effects of n blocks on it.

    Args:
      target: the region and its reference, [H, W].
      sample: the effects of the blocks' interventions, [n, k].
      visited: bool [n], blocks that do not touch the region and were asked for.
      status: int32 [], as far as it is known.
      scores: name -> float32 [], further scores; NaN where the status is not OK.
      logits: float32 [H, W, K], of the unperturbed image.
      threshold: below it an ATE is 0.
      block_size: side of a block in pixels.
      confidence: of the intervals.
    """
    height, width, _ = logits.shape
    found = statistics.estimate(sample)
    broken = (status == Status.NON_FINITE) | jnp.any(jnp.isnan(found.mean))
    status = jnp.where(broken, Status.NON_FINITE, status)
    found = jax.tree.map(lambda leaf: jnp.where(broken, 0.0, leaf), found)
    ate = jnp.where(jnp.abs(found.mean) < threshold, 0.0, found.mean)
    p = statistics.p_values(found, sample.count)
    significant = statistics.benjamini_hochberg(p, visited, 1 - confidence) & (ate != 0)
    wide = statistics.half_width(found, sample.count, confidence, sample.effects.shape[1])
    # No effect spans more than 200 points: what is wider, even endless, says nothing.
    wide = jnp.where(sample.count > 1, jnp.minimum(wide, 200.0), 0.0)

    def paint(values: jax.Array) -> jax.Array:
        blocks = values.reshape(grid_shape(height, width, block_size))
        pixels = paint_blocks(blocks, block_size, height, width)
        return jnp.where(target.region, 0, pixels).astype(values.dtype)

    labels = jnp.argmax(jnp.where(jnp.isfinite(logits), logits, 0.0), axis=-1)
    scores = {
        **scores,
        "num_positive": jnp.sum(ate > 0, dtype=jnp.float32),
        "num_negative": jnp.sum(ate < 0, dtype=jnp.float32),
        "num_zero": jnp.sum((ate == 0) & visited, dtype=jnp.float32),
        "num_significant": jnp.sum(significant, dtype=jnp.float32),
    }
    usable = status == Status.OK
    return Explanation(
        attribution=paint(ate),
        status=status,
        scores={name: jnp.where(usable, score, jnp.nan) for name, score in scores.items()},
        maps={
            "prediction": labels.astype(jnp.int32),
            "standard_error": paint(found.standard_error),
            "half_width": paint(wide),
            "significant": paint(significant),
        },
        traces={"histogram": _histogram(ate, visited, threshold)},
    )


def _histogram(ate: jax.Array, visited: jax.Array, threshold: Array) -> jax.Array:
    """Blocks per bin of effects [n]."""
    edges = jnp.sort(jnp.array([*_EDGES, -threshold, threshold], jnp.float32))
    # Exact zeros belong to the middle bin even where the threshold is 0.
    bins = jnp.where(ate == 0, len(_EDGES) // 2 + 1, jnp.searchsorted(edges, ate, side="right"))
    return jnp.zeros(len(_EDGES) + 3).at[bins].add(visited.astype(jnp.float32))
