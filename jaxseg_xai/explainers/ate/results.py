"""What the effects of all blocks on one region say: the map, its intervals, counts, histogram."""

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import Array, SegmentTarget
from jaxseg_xai.explainers.ate import statistics
from jaxseg_xai.explainers.base import Parts
from jaxseg_xai.ops.blocks import grid_shape, paint_blocks

#: Inner edges of the histogram in points; the threshold joins them as -t and t.
EDGES = (-3.0, -1.0, -0.3, 0.3, 1.0, 3.0)


def parts_of(
    target: SegmentTarget,
    sample: statistics.Sample,
    visited: jax.Array,
    status: jax.Array,
    finite: jax.Array,
    base: jax.Array,
    *,
    threshold: Array,
    block_size: int,
    confidence: float,
    widest: float,
) -> Parts:
    """What is found for one region from the effects of n blocks on it.

    Args:
      target: the region and its reference, [*S].
      sample: the effects of the blocks' interventions, [n, k].
      visited: bool [n], blocks that do not touch the region and were asked for.
      status: int32 [], whether there is a box that holds the region, and a block beside it.
      finite: bool [], whether the interventions that are not in `sample` had finite outcomes.
      base: float32 [], the outcome of the unperturbed image.
      threshold: below it an ATE is 0.
      block_size: side of a block in pixels.
      confidence: of the intervals.
      widest: no interval's half is wider.
    """
    shape = target.region.shape
    found = statistics.estimate(sample)
    ate = jnp.where(jnp.abs(found.mean) < threshold, 0.0, found.mean)
    p = statistics.p_values(found, sample.count)
    significant = statistics.benjamini_hochberg(p, visited, 1 - confidence) & (ate != 0)
    wide = statistics.half_width(found, sample.count, confidence, sample.effects.shape[1])
    wide = jnp.where(sample.count > 1, jnp.minimum(wide, widest), 0.0)

    def paint(values: jax.Array) -> jax.Array:
        blocks = values.reshape(grid_shape(shape, block_size))
        pixels = paint_blocks(blocks, block_size, shape)
        return jnp.where(target.region, 0, pixels).astype(values.dtype)

    return Parts(
        attribution=paint(ate),
        scores={
            "base_dice": base,
            "num_positive": jnp.sum(ate > 0, dtype=jnp.float32),
            "num_negative": jnp.sum(ate < 0, dtype=jnp.float32),
            "num_zero": jnp.sum((ate == 0) & visited, dtype=jnp.float32),
            "num_significant": jnp.sum(significant, dtype=jnp.float32),
        },
        maps={
            "standard_error": paint(found.standard_error),
            "half_width": paint(wide),
            "significant": paint(significant),
        },
        traces={"histogram": _histogram(ate, visited, threshold)},
        finite=finite & jnp.all(jnp.isfinite(found.mean)),
        status=status,
    )


def _histogram(ate: jax.Array, visited: jax.Array, threshold: Array) -> jax.Array:
    """Blocks per bin of effects [n]."""
    edges = jnp.sort(jnp.array([*EDGES, -threshold, threshold], jnp.float32))
    # Exact zeros belong to the middle bin even where the threshold is 0.
    bins = jnp.where(ate == 0, len(EDGES) // 2 + 1, jnp.searchsorted(edges, ate, side="right"))
    return jnp.zeros(len(EDGES) + 3).at[bins].add(visited.astype(jnp.float32))
