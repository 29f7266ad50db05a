"""Grad-CAM++ of a segment: gradients weigh more where few pixels make the outcome."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.cam.base import GradientMap, meta_of_map, weighted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GradCamPlusPlus(GradientMap):
    """Grad-CAM++ of a segment: gradients weigh more where few pixels make the outcome.

    With A_k the channels of a layer and G_k = dF/dA_k the gradient of the outcome, taken as the
    exponent of the class score so that higher derivatives are powers of it,

        alpha_k = G_k^2 / (2 G_k^2 + G_k^3 sum over the layer's pixels of A_k),  0 where G_k is 0,
        w_k = sum over the layer's pixels of alpha_k max(0, G_k),

    and the map is max(0, sum over k of w_k A_k).

    Attributes:
      layer: see `ActivationMap`.
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.

    References:
      Chattopadhyay et al., Grad-CAM++, arXiv 1710.11063, eq. 19, with a segment's outcome in the
      place of the class score.
    """

    name: ClassVar[str] = "grad_cam_plus_plus"
    meta: ClassVar[Meta] = meta_of_map("Bright: matters for the class.")

    def combine(self, channels: jax.Array, gradient: jax.Array) -> jax.Array:
        """See `GradientMap.combine`."""
        axes = tuple(range(gradient.ndim - 1))
        total = jnp.sum(channels, axis=axes)
        # Divided by G^2 above and below, so that small gradients do not vanish in its powers.
        below = 2 + gradient * total
        usable = (gradient != 0) & (below != 0)
        alpha = jnp.where(usable, 1 / jnp.where(usable, below, 1.0), 0.0)
        return weighted(channels, jnp.sum(alpha * jax.nn.relu(gradient), axis=axes))
