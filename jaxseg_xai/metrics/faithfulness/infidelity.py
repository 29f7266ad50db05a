"""Infidelity: how far the drop of the outcome is from the relevance that is taken away."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import MetricMeta, Rated
from jaxseg_xai.metrics.faithfulness.subsets import SubsetMetric


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Infidelity(SubsetMetric):
    """Mean squared difference of a subset's relevance and the drop of the outcome without it.

    Over n random subsets S of the blocks, d_S = O(x) - O(x with S at the baseline):

        infidelity = mean over S of (b sum over S of a - d_S)^2,
        b = max(0, mean(d_S sum over S of a) / mean((sum over S of a)^2)),

    b the factor that makes it least, as maps have units of their own (`scaled`; else b = 1, for
    maps whose values add up to drops of the outcome). At least 0, in the outcome's unit squared;
    lower is better. `share` is infidelity / mean(d_S^2): 0 where the map says every drop, 1 where
    it says nothing, or the opposite (for `scaled` it lies in [0, 1]); NaN where no subset matters.

    n forward passes, the same as `mu_fidelity`'s.

    Attributes:
      scaled: whether the map is multiplied by b.

    References:
      Yeh et al., arXiv 1901.09392, definition 2.1 with the baseline's removal of a subset (section
      2.2), for maps that hold the input's factor already (Captum's `infidelity` with
      `multiply_by_inputs`); b as Captum's `normalize`, where it may be negative.
    """

    name: ClassVar[str] = "infidelity"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, None),
        better="lower",
        headline="share",
        scores={
            "infidelity": "mean squared difference of relevance taken away and drop",
            "share": "infidelity as a share of the mean squared drop",
        },
    )
    scaled: bool = setting(True, static=True)

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        sums, drops = self.sums_and_drops(problem, example, rated)
        factor = jnp.float32(1)
        if self.scaled:
            squares = jnp.sum(sums**2)
            best = jnp.sum(drops * sums) / jnp.where(squares > 0, squares, 1.0)
            factor = jnp.maximum(best, 0.0)
        infidelity, most = jnp.mean((factor * sums - drops) ** 2), jnp.mean(drops**2)
        return {
            "infidelity": infidelity,
            "share": jnp.where(most > 0, infidelity / most, jnp.nan),
        }
