"""Mean probability of the class over the reference, in points."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes.finite import probability_in_region, unless_broken


@dataclasses.dataclass(frozen=True)
class MeanProbability:
    """O = 100 * mean of the probability of class c over the reference pixels in R; 0 without any.

    In [0, 100]. Linear in the probabilities; what is segmented beside the reference does not lower
    it.
    """

    unit: ClassVar[str] = "points"
    words: ClassVar[str] = "mean probability"
    differentiable: ClassVar[bool] = True
    soft: ClassVar[str] = "mean_probability"
    counts_beside: ClassVar[bool] = False

    def value(self, output: OutputSpec, logits: jax.Array, target: SegmentTarget) -> jax.Array:
        """See `Outcome.value`."""
        truth = (target.reference & target.region).astype(jnp.float32)
        total = jnp.sum(probability_in_region(output, logits, target) * truth)
        return unless_broken(100 * total / jnp.maximum(jnp.sum(truth), 1.0), logits, target)
