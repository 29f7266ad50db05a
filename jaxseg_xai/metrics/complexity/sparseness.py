"""Sparseness: on how few pixels the relevance lies."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sparseness(Metric):
    """Gini index of |a|, in [0, 1): 0 where all pixels have the same; higher is sparser.

        gini = sum over i = 1..N of (2 i - N - 1) |a|_(i) / (N sum of |a|),

    |a|_(i) in ascending order. NaN of a map of zeros. No forward pass.

    References:
      Chalasani et al., arXiv 1810.06583, section 2.
    """

    name: ClassVar[str] = "sparseness"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="gini",
        scores={"gini": "Gini index of the absolute relevance"},
        signed=False,
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem
        own = jnp.broadcast_to(example.own, (*rated.relevance.shape, 1)).ravel()
        number = jnp.sum(own).astype(jnp.float32)
        # What is not the image's own comes first, and its weights find zeros.
        values = jnp.sort(jnp.where(own, jnp.abs(rated.relevance).ravel(), -1.0))
        place = jnp.arange(1, values.size + 1) - (values.size - number)
        weights = (2 * place - number - 1) / number
        total = jnp.sum(jnp.maximum(values, 0.0))
        gini = jnp.sum(jnp.maximum(values, 0.0) * weights) / jnp.where(total > 0, total, jnp.nan)
        return {"gini": jnp.clip(gini, 0.0, 1.0)}
