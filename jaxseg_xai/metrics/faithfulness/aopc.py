"""AOPC: the mean drop of Dice while the most relevant pixels are taken away first."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import MetricMeta, Rated
from jaxseg_xai.metrics.faithfulness.curves import CurveMetric


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Aopc(CurveMetric):
    """Area over the perturbation curve, s_k the curve of `Deletion`:

        aopc = 1 / (K + 1) * sum over k = 0..K of (s_0 - s_k),

    hard and, as `aopc_soft`, with soft Dice. In [-1, 1], below 0 where deleting helps; higher is
    better.

    K forward passes, the same as `deletion`'s.

    References:
      Samek et al., arXiv 1509.06321, eq. 12; for segmentation arXiv 2604.11775.
    """

    name: ClassVar[str] = "aopc"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(-1.0, 1.0),
        better="higher",
        headline="aopc",
        scores={"aopc": "mean drop of hard Dice", "aopc_soft": "mean drop of soft Dice"},
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        hard, soft = (
            self.deletion_curve(problem, example, rated).values[name]
            for name in ("dice", "soft_dice")
        )
        return {"aopc": jnp.mean(hard[0] - hard), "aopc_soft": jnp.mean(soft[0] - soft)}
