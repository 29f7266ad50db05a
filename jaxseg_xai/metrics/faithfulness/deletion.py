"""Deletion: how fast the segmentation goes when the most relevant pixels are taken away first."""

import dataclasses
from typing import ClassVar, Literal, get_args

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.ops.blocks import grid_shape, paint_blocks, sum_in_block
from jaxseg_xai.outcomes import get_outcome

Baseline = Literal["zero", "mean"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Deletion(Metric):
    """Dice of the segment while the image is deleted, the most relevant blocks first.

    Blocks are ordered by their mean relevance (equal ones row by row). At the K + 1 fractions
    k / K, k = 0..K, that part of the blocks (whole ones) is set to the baseline, and

        s_k = D([f = c] and R, Y and R),

    with Y the reference of the target, hard or, in the soft form, with the class's probability in
    the place of its pixels. `auc` is the area under the curve by trapezoids. All values are in
    [0, 1]; lower is better: a map that finds what the model needs makes the curve fall early.

    Attributes:
      num_steps: K; each step is a forward pass.
      block_size: side of a block in pixels; 1 deletes pixel by pixel, which networks see as noise.
      baseline: what a deleted pixel holds: "zero" of the prepared (normalised) image, or the
        image's "mean" colour.

    References:
      Petsiuk et al., RISE, arXiv 1806.07421, section 4.1; for segmentation with Dice, arXiv
      2604.11775.
    """

    name: ClassVar[str] = "deletion"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="lower",
        headline="auc",
        scores={
            "auc": "area under the curve of hard Dice over the deleted fraction",
            "auc_soft": "the same of soft Dice",
        },
        curves={
            "curve": "hard Dice at the deleted fractions k / K",
            "curve_soft": "soft Dice at these fractions",
        },
    )
    num_steps: int = setting(16, static=True, at_least=1)
    block_size: int = setting(8, static=True, at_least=1)
    baseline: Baseline = setting("zero", static=True, choices=get_args(Baseline))

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        segmenter, image = problem.segmenter, example.image
        own = jnp.asarray(example.own)
        place, blocks = self._places(rated.relevance, jnp.broadcast_to(own, (*image.shape[:-1], 1)))
        blank = jnp.zeros_like(image)
        if self.baseline == "mean":
            pixels = jnp.broadcast_to(own, image.shape)
            blank += jnp.mean(image, axis=tuple(range(image.ndim - 1)), where=pixels)

        def dice(count: jax.Array) -> tuple[jax.Array, jax.Array]:
            deleted = jnp.where((place < count)[..., None] & own, blank, image)
            logits = segmenter.logits(problem.variables, deleted[None])[0]
            hard, soft = (
                get_outcome(name).value(segmenter.output, logits, example.target) / 100
                for name in ("dice", "soft_dice")
            )
            return hard, soft

        steps = range(self.num_steps + 1)
        counts = jnp.array([step * blocks // self.num_steps for step in steps])
        fractions = counts / blocks
        curve, curve_soft = jax.lax.map(dice, counts)
        return {
            "auc": jnp.trapezoid(curve, fractions),
            "auc_soft": jnp.trapezoid(curve_soft, fractions),
            "curve": curve,
            "curve_soft": curve_soft,
        }

    def _places(self, relevance: jax.Array, own: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Place of each pixel's block in the order of deletion, int32 [*S]; how many blocks."""
        size, side = relevance.shape, self.block_size
        area = sum_in_block(own[..., 0].astype(jnp.float32), side)
        # Blocks of padding come last, and are never reached.
        mean = jnp.where(area > 0, sum_in_block(relevance, side) / area, -jnp.inf)
        order = jnp.argsort(-mean.ravel(), stable=True)
        places = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
        return paint_blocks(places.reshape(grid_shape(size, side)), side, size), jnp.sum(area > 0)
