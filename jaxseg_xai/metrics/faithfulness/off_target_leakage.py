"""Off-target leakage: what deleting the relevant pixels does to the other classes."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import MetricMeta, Rated
from jaxseg_xai.metrics.evaluate import LEAKAGE
from jaxseg_xai.metrics.faithfulness.curves import CurveMetric


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class OffTargetLeakage(CurveMetric):
    """How much the segmentation of the other classes changes while the most relevant part goes.

    Along the curve of `Deletion`,

        l_k = 1 - mean over classes j other than c of D([f(x_k) = j], [f(x) = j]),

    the mean over those classes that are segmented in the image or after deleting, on all pixels.
    `leakage` is the mean of l_k over 0 < k / K <= share (at least over the first step). In [0, 1];
    lower is better: a map of one class should not point at what all others need. NaN where no other
    class is segmented.

    K forward passes, the same as `deletion`'s.

    Attributes:
      share: the part of the blocks up to which the mean goes.

    References:
      Ours; DEA, arXiv 2603.22624, asks for such a measure beside deletion.
    """

    name: ClassVar[str] = "off_target_leakage"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="lower",
        headline="leakage",
        scores={"leakage": "mean change of the other classes while the top part is deleted"},
        curves={"curve": "change of the other classes at the deleted fractions k / K"},
    )
    share: float = setting(0.2, static=True, above=0, at_most=1)

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        curve = self.deletion_curve(problem, example, rated).values[LEAKAGE]
        last = max(1, int(self.share * self.num_steps + 1e-6))
        return {"leakage": jnp.mean(curve[1 : last + 1]), "curve": curve}
