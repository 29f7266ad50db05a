"""Soft Dice of the probabilities with the reference, in points."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes.finite import TINY, probability_in_region, unless_broken


@dataclasses.dataclass(frozen=True)
class SoftDice:
    """O = 100 * 2 sum_R(p T) / (sum_R(p) + sum_R(T) + 1e-10), p the probability of class c.

    In [0, 100]: the hard Dice with probabilities in the place of the segmentation; differentiable.
    """

    unit: ClassVar[str] = "points"
    words: ClassVar[str] = "soft Dice"
    differentiable: ClassVar[bool] = True
    soft: ClassVar[str] = "soft_dice"
    counts_beside: ClassVar[bool] = True

    def value(self, output: OutputSpec, logits: jax.Array, target: SegmentTarget) -> jax.Array:
        """See `Outcome.value`."""
        probability = probability_in_region(output, logits, target)
        truth = (target.reference & target.region).astype(jnp.float32)
        dice = 2 * jnp.sum(probability * truth) / (jnp.sum(probability) + jnp.sum(truth) + TINY)
        return unless_broken(100 * dice, logits, target)
