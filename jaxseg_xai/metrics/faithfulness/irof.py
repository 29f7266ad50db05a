"""IROF: how fast the class goes when superpixels are removed, the most relevant first."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.baseline import BASELINES, Baseline, blank_image
from jaxseg_xai.metrics.evaluate import evaluate_each, outcomes_of
from jaxseg_xai.ops.blocks import grid_shape
from jaxseg_xai.ops.superpixels import slic


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Irof(Metric):
    """Area over the curve of the class's probability while superpixels are removed one by one.

    The L superpixels (SLIC) are ordered by their mean relevance. With s_l the mean probability of
    the class over the reference when the first l of them hold the baseline,

        irof = 1 - area under s_l / s_0 over l / L by trapezoids.

    At most 1, below 0 where removing helps; higher is better. NaN where s_0 is 0.

    At most `num_segments` forward passes.

    Attributes:
      num_segments: L is at most this: the most that begin as equal blocks.
      baseline: what a removed pixel holds, see `jaxseg_xai.metrics.baseline`.

    References:
      Rieger and Hansen, arXiv 2003.08747, eq. 2, for one image.
    """

    name: ClassVar[str] = "irof"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(None, None),
        better="higher",
        headline="irof",
        scores={"irof": "area over the curve of the class's relative probability"},
        curves={"curve": "relative probability after each superpixel, from none on"},
    )
    num_segments: int = setting(30, static=True, at_least=1)
    baseline: Baseline = setting("mean", static=True, choices=BASELINES)

    @property
    def num_passes(self) -> int:
        """See `Metric.num_passes`."""
        return self.num_segments

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        image, own = example.image, jnp.asarray(example.own)
        shape = image.shape[:-1]
        side = block_side(shape, self.num_segments)
        most = math.prod(grid_shape(shape, side))
        labels = slic(image, side, own)
        pixels = jnp.broadcast_to(own, (*shape, 1)).ravel().astype(jnp.float32)
        area, total = (
            jax.ops.segment_sum(x, labels.ravel(), most)
            for x in (pixels, rated.relevance.ravel() * pixels)
        )
        mean = jnp.where(area > 0, total / jnp.maximum(area, 1.0), -jnp.inf)
        order = jnp.argsort(-mean, stable=True)
        place = jnp.zeros_like(order).at[order].set(jnp.arange(most))[labels]
        blank = blank_image(self.baseline, example)

        def without(count: jax.Array) -> jax.Array:
            return jnp.where((place < count)[..., None] & own, blank, image)

        name = "mean_probability"
        whole = outcomes_of(problem, example, example.logits)[name]
        rest = evaluate_each(problem, example, without, jnp.arange(1, most + 1))[name]
        curve = jnp.concatenate([whole[None], rest]) / jnp.where(whole > 0, whole, jnp.nan)
        # Superpixels that nothing joined come last, and remove nothing.
        number = jnp.sum(area > 0)
        fractions = jnp.minimum(jnp.arange(most + 1), number) / number
        return {"irof": 1 - jnp.trapezoid(curve, fractions), "curve": curve}


def block_side(shape: Sequence[int], most: int) -> int:
    """The least side of blocks of which an image S has at most a number."""
    side = 1
    while math.prod(grid_shape(shape, side)) > most:
        side += 1
    return side
