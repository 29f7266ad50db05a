"""Seg-XRes-CAM: the channels of a layer, weighted by gradients pooled over small windows."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.cam.base import GradientMap, meta_of_map, weighted

_POOLS = ("max", "mean")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SegXResCam(GradientMap):
    """Seg-XRes-CAM: the channels of a layer, weighted by gradients pooled over small windows.

    With A_k the channels of a layer and G_k = dF/dA_k the gradient of the outcome, P pooling over
    windows of s x s pixels beside each other, and U repeating each result over its window, the map
    is

        max(0, sum over k of U(P(G_k)) A_k).

    Between HiResCAM (s = 1) and Grad-CAM (one window over the layer, "mean"). Windows at the end of
    an axis hold what is left of it.

    Attributes:
      layer: see `ActivationMap`.
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.
      window: s, in pixels of the layer.
      pool: "max" or "mean".

    References:
      Hasany et al., Seg-XRes-CAM, CVPR workshop on explainable AI for computer vision, 2023.
    """

    name: ClassVar[str] = "seg_xres_cam"
    meta: ClassVar[Meta] = meta_of_map("Bright: what the layer holds here raises the outcome.")
    window: int = setting(2, static=True, at_least=1)
    pool: Literal["max", "mean"] = setting("max", static=True, choices=_POOLS)

    def combine(self, channels: jax.Array, gradient: jax.Array) -> jax.Array:
        """See `GradientMap.combine`."""
        if self.pool == "max":
            pooled = self._pooled(gradient, -jnp.inf, lax.max)
        else:
            pooled = self._pooled(gradient, 0.0, lax.add)
            pooled /= self._pooled(jnp.ones_like(gradient), 0.0, lax.add)
        size = gradient.shape[:-1]
        for axis in range(len(size)):
            pooled = jnp.repeat(pooled, self.window, axis)
        return weighted(channels, pooled[tuple(slice(n) for n in size)])

    def _pooled(self, values: jax.Array, nothing: float, join: Any) -> jax.Array:
        """Windows joined, [*ceil(layer / s), K]."""
        window = (self.window,) * (values.ndim - 1) + (1,)
        left_over = [(0, -n % self.window) for n in values.shape[:-1]] + [(0, 0)]
        return lax.reduce_window(values, nothing, join, window, window, left_over)
