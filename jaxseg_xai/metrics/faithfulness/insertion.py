"""Insertion: how soon the segmentation is there when the most relevant pixels are shown first."""

import dataclasses
from typing import ClassVar

import jax

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import MetricMeta, Rated
from jaxseg_xai.metrics.faithfulness.curves import CurveMetric


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Insertion(CurveMetric):
    """Dice of the segment while the image is shown on the baseline, the most relevant blocks first.

    The curve of `Deletion` the other way: at the fraction k / K that part of the blocks is shown
    and the rest holds the baseline. `auc` is the area under it by trapezoids. In [0, 1]; higher is
    better: a map that finds what is enough for the model makes the curve rise early. Of a constant
    map blocks are shown row by row.

    K forward passes.

    References:
      Petsiuk et al., RISE, arXiv 1806.07421, section 4.1; for segmentation with Dice, arXiv
      2604.11775.
    """

    name: ClassVar[str] = "insertion"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="auc",
        scores={
            "auc": "area under the curve of hard Dice over the shown fraction",
            "auc_soft": "the same of soft Dice",
        },
        curves={
            "curve": "hard Dice at the shown fractions k / K",
            "curve_soft": "soft Dice at these fractions",
        },
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        curve = self.insertion_curve(problem, example, rated)
        return {
            "auc": curve.area("dice"),
            "auc_soft": curve.area("soft_dice"),
            "curve": curve.values["dice"],
            "curve_soft": curve.values["soft_dice"],
        }
