"""IoU at equal area: how far do the most relevant pixels and the known region overlap?"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.localisation.known_region import top_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class IouAtArea(Metric):
    """Intersection over union of a known region G and the |G| most relevant pixels.

    In [0, 1]; higher is better. With h the relevance rank accuracy it is h / (2 - h). NaN where G
    has no pixel; of a constant map what an order by chance gets.

    G is `known`; without it the segment itself, for which a high value says only that the map looks
    like the segmentation. No forward pass.

    References:
      Zhou et al., CAM, arXiv 1512.04150, section 3.2, with regions in the place of boxes and the
      threshold that gives them the area of G.
    """

    name: ClassVar[str] = "iou_at_area"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="iou",
        scores={"iou": "intersection over union with the known region at its area"},
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem
        top = top_of(example, rated)
        either = 2 * top.size - top.hits
        return {"iou": top.hits / jnp.where(top.size > 0, either, jnp.nan)}
