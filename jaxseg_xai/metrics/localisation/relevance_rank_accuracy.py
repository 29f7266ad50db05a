"""Relevance rank accuracy: how many of the most relevant pixels lie where the cause is?"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.localisation.known_region import top_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RelevanceRankAccuracy(Metric):
    """Share of the |G| most relevant pixels that lie in a known region G.

    In [0, 1]; higher is better. Of pixels that are equal at the end, the share that lies in G
    counts; a constant map so gets the share of G in the image. NaN where G has no pixel.

    G is `known`; without it the segment itself, for which a high value says only that the map looks
    like the segmentation. No forward pass.

    References:
      Arras et al., CLEVR-XAI, arXiv 2003.07258, section 3.
    """

    name: ClassVar[str] = "relevance_rank_accuracy"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="accuracy",
        scores={"accuracy": "share of the most relevant pixels that lies in the known region"},
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem
        top = top_of(example, rated)
        return {"accuracy": top.hits / jnp.where(top.size > 0, top.size, jnp.nan)}
