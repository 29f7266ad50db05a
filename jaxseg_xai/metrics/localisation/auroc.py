"""AUROC: is a pixel of the known region more relevant than another one?"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.localisation.known_region import own_plane
from jaxseg_xai.ops.ranking import ranks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Auroc(Metric):
    """Area under the ROC curve of the map as a detector of a known region G.

    The share of pairs of a pixel in G and one outside in which the former is more relevant, equal
    ones counting half. In [0, 1]; higher is better, 0.5 is chance and a constant map. NaN where G
    has no pixel, or all.

    G is `known`; without it the segment itself, for which a high value says only that the map looks
    like the segmentation. No forward pass.

    References:
      Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27, 2006.
    """

    name: ClassVar[str] = "auroc"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="auroc",
        scores={"auroc": "area under the ROC curve of the map against the known region"},
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem
        own = own_plane(example, rated)
        inside = (rated.known & own).ravel()
        order = ranks(jnp.where(own, rated.relevance, jnp.inf).ravel())
        number, total = (jnp.sum(x).astype(jnp.float32) for x in (inside, own))
        mean_rank = jnp.sum(order, where=inside) / jnp.maximum(number, 1.0)
        share = (mean_rank - (number + 1) / 2) / jnp.maximum(total - number, 1.0)
        defined = (number > 0) & (number < total)
        return {"auroc": jnp.where(defined, jnp.clip(share, 0.0, 1.0), jnp.nan)}
