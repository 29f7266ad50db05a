"""What an intervention is measured by: one number, in points, of one image's logits in a region.

Every outcome takes the logits float32 [H, W, K] of one image and its `SegmentTarget` (leaves
[H, W]), and returns float32 [] in [0, 100]: 100 where the class c is segmented in the region R as
the reference T has it. It is NaN where a logit in R is not finite; logits outside R do not count.
`jax.vmap` it over a batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import SegmentTarget

#: float32 [H, W, K], target -> float32 [].
Outcome = Callable[[jax.Array, SegmentTarget], jax.Array]

#: Of the Dice coefficients in PdCR's code: makes Dice 0 where both masks are empty.
_TINY = 1e-10


def hard_dice_points(logits: jax.Array, target: SegmentTarget) -> jax.Array:
    """O = 100 D([argmax f = c] and R, T and R), D(a, b) = 2|a and b| / (|a| + |b| + 1e-10).

    PdCR's outcome (arXiv 2602.20511). Piecewise constant: it has no useful gradient.
    """
    segment = (jnp.argmax(logits, axis=-1) == target.class_index) & target.region
    truth = target.reference & target.region
    both, a, b = (jnp.sum(m, dtype=jnp.float32) for m in (segment & truth, segment, truth))
    return _unless_broken(100 * 2 * both / (a + b + _TINY), logits, target)


def soft_dice_points(logits: jax.Array, target: SegmentTarget) -> jax.Array:
    """O = 100 * 2 sum_R(p T) / (sum_R(p) + sum_R(T) + 1e-10), p = softmax(f)_c.

    The hard Dice with probabilities in the place of the segmentation; differentiable.
    """
    probability = _probability(logits, target)
    truth = (target.reference & target.region).astype(jnp.float32)
    dice = 2 * jnp.sum(probability * truth) / (jnp.sum(probability) + jnp.sum(truth) + _TINY)
    return _unless_broken(100 * dice, logits, target)


def mean_probability_points(logits: jax.Array, target: SegmentTarget) -> jax.Array:
    """O = 100 * mean of softmax(f)_c over the reference pixels in R; 0 where there are none.

    Linear in the probabilities; what is segmented beside the reference does not lower it.
    """
    truth = (target.reference & target.region).astype(jnp.float32)
    total = jnp.sum(_probability(logits, target) * truth)
    return _unless_broken(100 * total / jnp.maximum(jnp.sum(truth), 1.0), logits, target)


#: By the name that settings use; add to it before anything is compiled.
OUTCOMES: dict[str, Outcome] = {
    "dice": hard_dice_points,
    "soft_dice": soft_dice_points,
    "mean_probability": mean_probability_points,
}


def _probability(logits: jax.Array, target: SegmentTarget) -> jax.Array:
    """softmax(f)_c, [H, W]; 0 outside the region."""
    # Zeroed before the softmax: infinity outside the region must not reach the gradient either.
    inside = jnp.where(target.region[..., None], logits, 0.0)
    probability = jnp.take(jax.nn.softmax(inside, axis=-1), target.class_index, axis=-1)
    return jnp.where(target.region, probability, 0.0)


def _unless_broken(value: jax.Array, logits: jax.Array, target: SegmentTarget) -> jax.Array:
    finite = jnp.all(jnp.isfinite(logits) | ~target.region[..., None])
    return jnp.where(finite, value, jnp.nan)
