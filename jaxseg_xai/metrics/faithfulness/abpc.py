"""ABPC: the area between the curves of least and most relevant pixels taken away first."""

import dataclasses
from typing import ClassVar

import jax

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import MetricMeta, Rated
from jaxseg_xai.metrics.faithfulness.curves import CurveMetric


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Abpc(CurveMetric):
    """Area between perturbation curves:

        abpc = area under the curve with the least relevant blocks deleted first
             - area under the curve with the most relevant ones deleted first.

    The former is the curve of `Insertion` read from its end: what is left when the least relevant
    blocks are gone are the most relevant ones. So `abpc` is insertion's area less deletion's, hard
    and, as `abpc_soft`, of soft Dice. In [-1, 1]; higher is better, 0 is what an order without
    meaning gets on average.

    2 K forward passes, the same as those of `deletion` and `insertion`.

    References:
      arXiv 2604.11775.
    """

    name: ClassVar[str] = "abpc"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(-1.0, 1.0),
        better="higher",
        headline="abpc",
        scores={"abpc": "area between the curves of hard Dice", "abpc_soft": "of soft Dice"},
    )

    @property
    def num_passes(self) -> int:
        """See `Metric.num_passes`."""
        return 2 * self.num_steps

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        most = self.deletion_curve(problem, example, rated)
        least = self.insertion_curve(problem, example, rated)
        return {
            name: least.area(outcome) - most.area(outcome)
            for name, outcome in (("abpc", "dice"), ("abpc_soft", "soft_dice"))
        }
