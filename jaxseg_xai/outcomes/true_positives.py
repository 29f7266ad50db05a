"""Share of the reference that is segmented, in points."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes.finite import unless_broken


@dataclasses.dataclass(frozen=True)
class TruePositives:
    """O = 100 |[f is c] and R and T| / |T and R|, the true positive rate; 0 without any reference.

    In [0, 100]; piecewise constant. Numbers of pixels, as in the paper, divided by the same number
    for all perturbations of an image.

    References:
      arXiv 2604.11775, Shapley values of true and false positives.
    """

    unit: ClassVar[str] = "points"
    words: ClassVar[str] = "share of true positives"
    differentiable: ClassVar[bool] = False
    soft: ClassVar[str] = "mean_probability"
    counts_beside: ClassVar[bool] = False

    def value(self, output: OutputSpec, logits: jax.Array, target: SegmentTarget) -> jax.Array:
        """See `Outcome.value`."""
        truth = target.reference & target.region
        found = jnp.sum(output.segment_of(logits, target.class_index) & truth, dtype=jnp.float32)
        share = found / jnp.maximum(jnp.sum(truth), 1)
        return unless_broken(100 * share, logits, target)
