"""Energy inside: how much of the positive attribution lies where the cause is known to be."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.localisation.known_region import own_plane


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class EnergyInside(Metric):
    """Share of the positive relevance a+ = max(a, 0) in a known region G:

        energy_inside = sum over G of a+ / sum over all pixels of a+.

    In [0, 1], higher is better. NaN of a map without any positive relevance, and where G has no
    pixel. `share_known` is what a map that says nothing (the same everywhere) would get: the area
    of G over that of the image.

    G is `known`; without it the segment itself, for which a high value says only that the map looks
    like the segmentation.

    References:
      Wang et al., Score-CAM, arXiv 1910.01279, section 4.3 (energy-based pointing game).
    """

    name: ClassVar[str] = "energy_inside"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="energy_inside",
        scores={
            "energy_inside": "share of the positive relevance in the known region",
            "share_known": "area of the known region over that of the image",
        },
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem
        own = own_plane(example, rated)
        positive = jnp.maximum(rated.relevance, 0.0)
        total = jnp.sum(positive)
        inside = jnp.sum(jnp.where(rated.known, positive, 0.0))
        defined = (total > 0) & jnp.any(rated.known & own)
        return {
            "energy_inside": jnp.where(defined, inside / total, jnp.nan),
            "share_known": jnp.mean(rated.known, dtype=jnp.float32, where=own),
        }
