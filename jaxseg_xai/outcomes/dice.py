"""Hard Dice of the segmentation with the reference, in points."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes.finite import TINY, unless_broken


@dataclasses.dataclass(frozen=True)
class Dice:
    """O = 100 D([f is c] and R, T and R), D(a, b) = 2|a and b| / (|a| + |b| + 1e-10).

    In [0, 100]; piecewise constant, so that it has no useful gradient.

    References:
      PdCR's outcome, arXiv 2602.20511.
    """

    unit: ClassVar[str] = "points"
    words: ClassVar[str] = "Dice"
    differentiable: ClassVar[bool] = False
    soft: ClassVar[str] = "soft_dice"
    counts_beside: ClassVar[bool] = True

    def value(self, output: OutputSpec, logits: jax.Array, target: SegmentTarget) -> jax.Array:
        """See `Outcome.value`."""
        segment = output.segment_of(logits, target.class_index) & target.region
        truth = target.reference & target.region
        both, a, b = (jnp.sum(m, dtype=jnp.float32) for m in (segment & truth, segment, truth))
        return unless_broken(100 * 2 * both / (a + b + TINY), logits, target)
