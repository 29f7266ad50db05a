"""Pointing game: does the most relevant pixel lie where the cause is known to be?"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.localisation.known_region import own_plane


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PointingGame(Metric):
    """1 where the most relevant pixel lies in a known region G, else 0; higher is better.

    Where several pixels are the most relevant, the share of them that lies in G: what a draw among
    them would hit. NaN of a constant map, which points nowhere, and where G has no pixel.

    G is `known`; without it the segment itself, for which a high value says only that the map looks
    like the segmentation. No forward pass.

    References:
      Zhang et al., Excitation Backprop, arXiv 1608.00507, section 4.1, without a tolerance.
    """

    name: ClassVar[str] = "pointing_game"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="hit",
        scores={"hit": "whether the most relevant pixel lies in the known region"},
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem
        own = own_plane(example, rated)
        most = jnp.max(rated.relevance, where=own, initial=-jnp.inf)
        first = (rated.relevance == most) & own
        hit = jnp.sum(first & rated.known) / jnp.maximum(jnp.sum(first), 1)
        points = jnp.any((rated.relevance != most) & own) & jnp.any(rated.known)
        return {"hit": jnp.where(points, hit, jnp.nan)}
