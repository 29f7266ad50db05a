"""What CAMs and integrated gradients explain of a segmentation: its summed logits.

With f_c the logits of class c and M = [argmax f(x) = c] and R the pixels where the class is
predicted in the region, F = sum of f_c over M. M is that of the image itself and stays as it is
when the image changes. So do Seg-Grad-CAM (arXiv 2002.11434, eq. 1), pytorch-grad-cam's
`SemanticSegmentationTarget` and Captum's tutorial on segmentation. Of a model with one logit z the
classes have logits (0, z): its background has nothing to explain.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status


def predicted_segment(logits: jax.Array, target: SegmentTarget) -> jax.Array:
    """M, bool [H, W], of logits [H, W, K]."""
    return (jnp.argmax(logits, axis=-1) == target.class_index) & target.region


def summed_logits(logits: jax.Array, target: SegmentTarget, segment: jax.Array) -> jax.Array:
    """F, float32 [], of logits [H, W, K] and M [H, W]."""
    return jnp.sum(jnp.where(segment, jnp.take(logits, target.class_index, axis=-1), 0.0))


def status_of(
    image: jax.Array,
    logits: jax.Array,
    target: SegmentTarget,
    segment: jax.Array,
    finite: jax.Array,
) -> jax.Array:
    """EMPTY_TARGET, EMPTY_REGION, NON_FINITE or OK; int32 []. `finite`: whether the result is."""
    status = jnp.where(jnp.any(segment), Status.OK, Status.EMPTY_TARGET)
    status = jnp.where(jnp.any(target.region), status, Status.EMPTY_REGION)
    finite &= jnp.all(jnp.isfinite(image)) & jnp.all(jnp.isfinite(logits))
    return jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32)


def explanation_of(
    attribution: jax.Array, status: jax.Array, logits: jax.Array, scores: Mapping[str, jax.Array]
) -> Explanation:
    """With the prediction; zeros and scores of NaN where the status is not OK.

    Args:
      attribution: [H, W].
      status: from `status_of`.
      logits: [H, W, K].
      scores: name -> [].
    """
    usable = status == Status.OK
    labels = jnp.argmax(jnp.where(jnp.isfinite(logits), logits, 0.0), axis=-1)
    return Explanation(
        attribution=jnp.where(usable, attribution, 0.0),
        status=status,
        scores={name: jnp.where(usable, score, jnp.nan) for name, score in scores.items()},
        maps={"prediction": labels.astype(jnp.int32)},
    )
