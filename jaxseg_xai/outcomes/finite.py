"""What all outcomes have in common."""

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget

#: Of the Dice coefficients in PdCR's code: makes Dice 0 where both masks are empty.
TINY = 1e-10


def probability_in_region(
    output: OutputSpec, logits: jax.Array, target: SegmentTarget
) -> jax.Array:
    """The class's probability [*S]; 0 outside the region."""
    # Zeroed before the softmax: infinity outside the region must not reach the gradient either.
    inside = jnp.where(target.region[..., None], logits, 0.0)
    probability = output.probability_of(inside, target.class_index)
    return jnp.where(target.region, probability, 0.0)


def unless_broken(value: jax.Array, logits: jax.Array, target: SegmentTarget) -> jax.Array:
    """The value, or NaN where a logit in the region is not finite."""
    finite = jnp.all(jnp.isfinite(logits) | ~target.region[..., None])
    return jnp.where(finite, value, jnp.nan)
