"""Rounding stability: whether the map is that of the image, or one of many that rounding picks."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Batch, Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated, keys_of
from jaxseg_xai.ops.ranking import mean_of_pairs, overlaps, rank_correlations

#: Larger than what float32 rounds by (2^-24), smaller than anything that means something.
_ROUNDING = 2.0**-20


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundingStability(Metric):
    """Agreement of the maps of an image whose values are moved by their own 2^-20.

    The image x is explained again n times as x (1 + 2^-20 e), every e being 1 or -1 by chance; the
    target stays as it is. Of every two of the n + 1 maps:

        iou = |A and B| / |A or B|, of the regions {relevance > level * m}, m the largest relevance
              of the map that is judged (MiSuRe's is 1);
        rank_correlation = Spearman's, over the pixels;
        difference = mean over the pixels of |a - b|, in the map's unit (lower is better);

    and the mean over all pairs. `iou` lies in [0, 1], NaN where no relevance is positive;
    `rank_correlation` in [-1, 1], NaN where a map is constant. All are NaN where one of the
    explanations failed. Higher is better: a map that rounding moves depends on the machine.

    It needs n further explanations.

    Attributes:
      num_again: n.
      level: where a region begins, as a share of the largest relevance.

    References:
      Ours. Of larger changes: Alvarez-Melis and Jaakkola, arXiv 1806.08049.
    """

    name: ClassVar[str] = "rounding_stability"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(-1.0, None),
        better="higher",
        headline="iou",
        scores={
            "iou": "intersection over union of the regions of every two maps",
            "rank_correlation": "rank correlation of every two maps",
            "difference": "mean absolute difference of every two maps, lower is better",
        },
        needs=frozenset({"explain"}),
    )
    num_again: int = setting(8, static=True, at_least=1)
    level: float = setting(0.5, above=0, below=1)

    @property
    def num_explanations(self) -> int:
        """See `Metric.num_explanations`."""
        return self.num_again

    def changed(self, problem: Problem, batch: Batch, number: jax.Array) -> tuple[Problem, Batch]:
        """See `Metric.changed`."""

        def moved(image: jax.Array, key: jax.Array) -> jax.Array:
            signs = jax.random.rademacher(jax.random.fold_in(key, number), image.shape, jnp.float32)
            return image * (1 + _ROUNDING * signs)

        images = jax.vmap(moved)(jnp.asarray(batch.images), keys_of(problem, batch))
        return problem, dataclasses.replace(batch, images=images)

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem
        own = jnp.broadcast_to(example.own, (*rated.relevance.shape, 1))[..., 0]
        maps = jnp.concatenate([rated.relevance[None], rated.again])
        most = jnp.max(rated.relevance)
        regions = (maps > self.level * most) & own
        rows, columns = jnp.triu_indices(len(maps), 1)
        # One pair after the other: all at a time would be n^2 maps.
        off = jax.lax.map(
            lambda pair: jnp.sum(jnp.abs(maps[pair[0]] - maps[pair[1]])), (rows, columns)
        )
        return {
            "iou": jnp.where(most > 0, mean_of_pairs(overlaps(regions)), jnp.nan),
            "rank_correlation": mean_of_pairs(rank_correlations(maps, own)),
            "difference": jnp.mean(off) / jnp.sum(own),
        }
