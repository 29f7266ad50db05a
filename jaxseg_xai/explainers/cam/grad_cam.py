"""Seg-Grad-CAM: the channels of a layer, weighted by the mean gradient of an outcome."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.cam.base import GradientMap, meta_of_map, weighted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class GradCam(GradientMap):
    """Seg-Grad-CAM: the channels of a layer, weighted by the mean gradient of an outcome.

    With F the outcome (by default the logits of class c summed over its predicted pixels), A_k the
    channels of a layer, and alpha_k = mean over the layer's pixels of dF/dA_k, the map is

        max(0, sum over k of alpha_k A_k).

    Attributes:
      layer: see `ActivationMap`.
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.

    References:
      Vinogradova et al., Seg-Grad-CAM, arXiv 2002.11434, eq. 1; Selvaraju et al., Grad-CAM, arXiv
      1610.02391.
    """

    name: ClassVar[str] = "grad_cam"
    meta: ClassVar[Meta] = meta_of_map(
        "Bright: matters for the class. All 0 where the layer's channels speak against it."
    )

    def combine(self, channels: jax.Array, gradient: jax.Array) -> jax.Array:
        """See `GradientMap.combine`."""
        alpha = jnp.mean(gradient, axis=tuple(range(gradient.ndim - 1)))
        return weighted(channels, alpha)
