"""HiResCAM of a segment: every pixel of a layer, weighted by its own gradient."""

import dataclasses
from typing import ClassVar

import jax

from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.cam.base import GradientMap, meta_of_map, weighted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class HiResCam(GradientMap):
    """HiResCAM of a segment: every pixel of a layer, weighted by its own gradient.

    With A_k the channels of a layer and G_k = dF/dA_k the gradient of the outcome, the map is

        max(0, sum over k of G_k A_k)

    pixel by pixel. Where the rest of the model is linear the sum without max(0, .) adds up to the
    outcome, up to its bias.

    Attributes:
      layer: see `ActivationMap`.
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.

    References:
      Draelos and Carin, HiResCAM, arXiv 2011.08891. Seg-XRes-CAM with windows of one pixel.
    """

    name: ClassVar[str] = "hires_cam"
    meta: ClassVar[Meta] = meta_of_map("Bright: what the layer holds here raises the outcome.")

    def combine(self, channels: jax.Array, gradient: jax.Array) -> jax.Array:
        """See `GradientMap.combine`."""
        return weighted(channels, gradient)
