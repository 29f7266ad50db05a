"""Pixel flipping: the class's probability while single pixels go, the most relevant first."""

import dataclasses
from typing import ClassVar

import jax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import MetricMeta, Rated
from jaxseg_xai.metrics.faithfulness.curves import CurveMetric


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelFlipping(CurveMetric):
    """Mean probability of the class over the reference while pixels go, the most relevant first.

    As `Deletion`, but pixel by pixel and of the class's score instead of Dice, as published for
    classifiers: s_k = mean of the probability of class c over the reference's pixels in the region,
    `auc` the area under it by trapezoids over the fraction of pixels. In [0, 1]; lower is better.
    Single pixels are out of distribution to most networks: compare methods, not numbers.

    K forward passes.

    References:
      Bach et al., On Pixel-Wise Explanations ..., PLOS ONE 10(7), 2015; Samek et al., arXiv
      1509.06321.
    """

    name: ClassVar[str] = "pixel_flipping"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="lower",
        headline="auc",
        scores={"auc": "area under the curve of the class's mean probability"},
        curves={"curve": "mean probability at the deleted fractions k / K"},
    )
    block_size: int = setting(1, static=True, at_least=1)

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        curve = self.deletion_curve(problem, example, rated)
        return {"auc": curve.area("mean_probability"), "curve": curve.values["mean_probability"]}
