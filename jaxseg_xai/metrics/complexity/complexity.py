"""Complexity: over how many pixels the relevance is spread."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Complexity(Metric):
    """Entropy of p = |a| / sum of |a|, in nats:

        entropy = - sum over the pixels of p log p.

    In [0, log N]: 0 where one pixel has it all, log N where all N have the same; lower is simpler.
    exp(entropy) is a number of pixels. NaN of a map of zeros. No forward pass.

    References:
      Bhatt et al., arXiv 2005.00631, definition 4.
    """

    name: ClassVar[str] = "complexity"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, None),
        better="lower",
        headline="entropy",
        scores={"entropy": "entropy of the absolute relevance, in nats"},
        signed=False,
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem, example  # padding has the relevance 0, which adds nothing
        size = jnp.abs(rated.relevance)
        total = jnp.sum(size)
        share = size / jnp.where(total > 0, total, jnp.nan)
        return {"entropy": jnp.maximum(jnp.sum(jax.scipy.special.entr(share)), 0.0)}
