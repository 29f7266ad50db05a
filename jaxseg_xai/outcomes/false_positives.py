"""Share of the region beside the reference that is segmented, in points."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes.finite import unless_broken


@dataclasses.dataclass(frozen=True)
class FalsePositives:
    """O = 100 |[f is c] and R and not T| / |R and not T|, the false positive rate.

    In [0, 100], high where much is segmented that is not the reference; piecewise constant; 0 where
    all of the region is the reference. Numbers of pixels, as in the paper, divided by the same
    number for all perturbations of an image.

    References:
      arXiv 2604.11775, Shapley values of true and false positives.
    """

    unit: ClassVar[str] = "points"
    words: ClassVar[str] = "share of false positives"
    differentiable: ClassVar[bool] = False
    soft: ClassVar[str] = "soft_dice"
    counts_beside: ClassVar[bool] = True

    def value(self, output: OutputSpec, logits: jax.Array, target: SegmentTarget) -> jax.Array:
        """See `Outcome.value`."""
        beside = target.region & ~target.reference
        found = jnp.sum(output.segment_of(logits, target.class_index) & beside, dtype=jnp.float32)
        share = found / jnp.maximum(jnp.sum(beside), 1)
        return unless_broken(100 * share, logits, target)
