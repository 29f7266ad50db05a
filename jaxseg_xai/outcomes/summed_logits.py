"""Logits of the class summed over the reference: what CAMs and integrated gradients explain."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.outcomes.finite import unless_broken


@dataclasses.dataclass(frozen=True)
class SummedLogits:
    """F = sum of the logits of class c over the reference pixels in R.

    With the model's own prediction as the reference it is the target of Seg-Grad-CAM,
    pytorch-grad-cam's `SemanticSegmentationTarget` and Captum's tutorial on segmentation. The
    reference stays as it is when the image changes. Of a model with one logit z the classes have
    logits (0, z): its background has nothing to explain.

    References:
      Vinogradova et al., Seg-Grad-CAM, arXiv 2002.11434, eq. 1.
    """

    unit: ClassVar[str] = "summed logits"
    words: ClassVar[str] = "summed logits"
    differentiable: ClassVar[bool] = True
    soft: ClassVar[str] = "summed_logits"
    counts_beside: ClassVar[bool] = False

    def value(self, output: OutputSpec, logits: jax.Array, target: SegmentTarget) -> jax.Array:
        """See `Outcome.value`."""
        del output
        of_class = jnp.take(logits, target.class_index, axis=-1)
        total = jnp.sum(jnp.where(target.reference & target.region, of_class, 0.0))
        return unless_broken(total, logits, target)
