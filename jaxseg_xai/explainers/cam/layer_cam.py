"""LayerCAM of a segment: every pixel of a layer, weighted by its own positive gradient."""

import dataclasses
from typing import ClassVar

import jax

from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.cam.base import GradientMap, meta_of_map, weighted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerCam(GradientMap):
    """LayerCAM of a segment: every pixel of a layer, weighted by its own positive gradient.

    With A_k the channels of a layer and G_k = dF/dA_k the gradient of the outcome, the map is

        max(0, sum over k of max(0, G_k) A_k)

    pixel by pixel; fine layers give fine maps.

    Attributes:
      layer: see `ActivationMap`.
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.

    References:
      Jiang et al., LayerCAM, IEEE TIP 30, 2021.
    """

    name: ClassVar[str] = "layer_cam"
    meta: ClassVar[Meta] = meta_of_map(
        "Bright: what the layer holds here would raise the outcome if there were more of it."
    )

    def combine(self, channels: jax.Array, gradient: jax.Array) -> jax.Array:
        """See `GradientMap.combine`."""
        return weighted(channels, jax.nn.relu(gradient))
