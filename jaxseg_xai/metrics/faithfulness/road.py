"""ROAD: what is left of a segment when the relevant pixels are filled in from their neighbours."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.evaluate import evaluate_each
from jaxseg_xai.metrics.faithfulness.curves import places
from jaxseg_xai.ops.imputation import impute_linearly


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Road(Metric):
    """Dice of the segment while the most relevant pixels are removed by noisy linear imputation.

    At the fractions (k - 1/2) / K, k = 1..K, of the pixels, the most relevant first, removed pixels
    become the weighted mean of their neighbours (`jaxseg_xai.ops.imputation`) plus normal noise, so
    that neither a colour nor the shape of what was removed tells the model anything. s_k is hard
    Dice, in the soft form soft Dice, and `road` the mean of s_k. In [0, 1]; lower is better.

    K forward passes, and K systems of equations. It draws noise.

    Attributes:
      num_steps: K.
      block_size: side of the blocks that are removed whole; 1, as published, goes pixel by pixel.
      noise: standard deviation, in units of the prepared image.

    References:
      Rong et al., arXiv 2202.00449, most relevant first, with Dice in the place of accuracy.
    """

    name: ClassVar[str] = "road"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="lower",
        headline="road",
        scores={"road": "mean hard Dice over the fractions", "road_soft": "mean soft Dice"},
        curves={
            "curve": "hard Dice at the removed fractions (k - 1/2) / K",
            "curve_soft": "soft Dice at these fractions",
        },
    )
    num_steps: int = setting(10, static=True, at_least=1)
    block_size: int = setting(1, static=True, at_least=1)
    noise: float = setting(0.01, at_least=0)

    @property
    def num_passes(self) -> int:
        """See `Metric.num_passes`."""
        return self.num_steps

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        own = jnp.asarray(example.own)
        place, blocks = places(rated.relevance, own, self.block_size)

        def removed(step: jax.Array) -> jax.Array:
            count = (2 * step + 1) * blocks // (2 * self.num_steps)
            missing = (place < count)[..., None] & own
            filled = impute_linearly(example.image, missing[..., 0])
            key = jax.random.fold_in(example.key, step)
            noise = self.noise * jax.random.normal(key, filled.shape, jnp.float32)
            return jnp.where(missing, filled + noise, example.image)

        found = evaluate_each(problem, example, removed, jnp.arange(self.num_steps))
        curve, curve_soft = found["dice"] / 100, found["soft_dice"] / 100
        return {
            "road": jnp.mean(curve),
            "road_soft": jnp.mean(curve_soft),
            "curve": curve,
            "curve_soft": curve_soft,
        }
