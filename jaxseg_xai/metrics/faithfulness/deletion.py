"""Deletion: how fast the segmentation goes when the most relevant pixels are taken away first."""

import dataclasses
from typing import ClassVar

import jax

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import MetricMeta, Rated
from jaxseg_xai.metrics.faithfulness.curves import CurveMetric


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Deletion(CurveMetric):
    """Dice of the segment while the image is deleted, the most relevant blocks first.

    At the K + 1 fractions k / K, k = 0..K, of the blocks (see `CurveMetric`)

        s_k = D([f = c] and R, Y and R),

    with Y the reference of the target (the prediction, or the ground truth where the targets have
    that), hard or, in the soft form, with the class's probability in the place of its pixels. `auc`
    is the area under the curve by trapezoids. All values are in [0, 1]; lower is better: a map that
    finds what the model needs makes the curve fall early. Of a constant map blocks go row by row.

    K forward passes.

    References:
      Petsiuk et al., RISE, arXiv 1806.07421, section 4.1; for segmentation with Dice, arXiv
      2604.11775.
    """

    name: ClassVar[str] = "deletion"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="lower",
        headline="auc",
        scores={
            "auc": "area under the curve of hard Dice over the deleted fraction",
            "auc_soft": "the same of soft Dice",
        },
        curves={
            "curve": "hard Dice at the deleted fractions k / K",
            "curve_soft": "soft Dice at these fractions",
        },
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        curve = self.deletion_curve(problem, example, rated)
        return {
            "auc": curve.area("dice"),
            "auc_soft": curve.area("soft_dice"),
            "curve": curve.values["dice"],
            "curve_soft": curve.values["soft_dice"],
        }
