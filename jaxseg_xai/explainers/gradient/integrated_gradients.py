"""Integrated gradients of a segment: each pixel's share of what the image is above a black one."""

import dataclasses
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, Predict, SegmentTarget
from jaxseg_xai.explainers.base import Batch, explain_each
from jaxseg_xai.explainers.gradient.segment_logits import (
    explanation_of,
    predicted_segment,
    status_of,
    summed_logits,
)
from jaxseg_xai.ops.path_integral import mean_gradient
from jaxseg_xai.program.memory import gradients_that_fit


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class IntegratedGradients:
    """Integrated gradients of a predicted segment's summed logits, from a black image.

    With F the logits of class c summed over its predicted pixels (`segment_logits`), a pixel gets

        a = sum over channels of x * integral over s in [0, 1] of grad F(s x) ds,

    so that all pixels together get F(x) - F(0). Positive: the pixel, as it is, speaks for the
    class. The nodes are Gauss-Legendre's, as in Captum, whose number is the default here.

    Attributes:
      num_nodes: gradients on the path from 0 to the image; more make `completeness_gap` smaller.

    References:
      Sundararajan et al., arXiv 1703.01365, eq. 1.
    """

    name: ClassVar[str] = "integrated_gradients"
    whole_image: ClassVar[bool] = True
    num_nodes: int = dataclasses.field(default=50, metadata={"static": True})

    @property
    def needs_pool(self) -> bool:
        """No: zero is the baseline."""
        return False

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        if self.num_nodes < 1:
            raise ConfigError(
                f"integrated_gradients.num_nodes is {self.num_nodes}; it must be at least 1"
            )

    def explain_batch(
        self, predict: Predict, variables: Any, batch: Batch, mesh: Mesh
    ) -> Explanation:
        """`explain` for every example of a batch, the examples split over the mesh.

        A device looks at as many images at a time as it has room for.
        """
        device, shape = mesh.devices.flat[0], batch.images.shape[1:]
        at_a_time = gradients_that_fit(device, predict, variables, shape)

        def one(shared: tuple, image: jax.Array, target: SegmentTarget) -> Explanation:
            explainer, variables = shared
            return explainer.explain(predict, variables, image, target)

        return explain_each(one, (self, variables), batch, mesh, at_a_time)

    def explain(
        self, predict: Predict, variables: Any, image: jax.Array, target: SegmentTarget
    ) -> Explanation:
        """Attribution of one image and class; `vmap` it over images and targets.

        Args:
          predict: the model, differentiable with respect to its images.
          variables: its weights.
          image: float32 [H, W, C], normalised; 0 is the baseline.
          target: class c and region; its `reference` is not used.

        Returns:
          Attribution [H, W] in units of summed logits, signed; map `prediction`. Scores: `outcome`
          F(x); `baseline_outcome` F(0); `completeness_gap`, |sum of the attribution - (F(x) -
          F(0))|, which goes to 0 with `num_nodes`; `area_target` in pixels. Status EMPTY_TARGET
          (the class is not predicted in the region), EMPTY_REGION or NON_FINITE (of the image, its
          logits or a gradient) come with a map of zeros and scores of NaN.
        """
        chex.assert_rank(image, 3)
        chex.assert_shape(target.region, image.shape[:2])
        black = jnp.zeros_like(image)
        logits, of_black = predict(variables, jnp.stack([image, black]))
        segment = predicted_segment(logits, target)

        def outcome(x: jax.Array) -> jax.Array:
            return summed_logits(predict(variables, x[None])[0], target, segment)

        slope = mean_gradient(jax.grad(outcome), black, image, self.num_nodes)
        attribution = jnp.sum(slope * image, axis=-1)
        end, start = (summed_logits(x, target, segment) for x in (logits, of_black))
        gap = jnp.abs(jnp.sum(attribution) - (end - start))
        # The gap is NaN wherever a gradient is.
        status = status_of(image, logits, target, segment, jnp.isfinite(gap))
        scores = {
            "outcome": end,
            "baseline_outcome": start,
            "completeness_gap": gap,
            "area_target": jnp.sum(segment, dtype=jnp.float32),
        }
        return explanation_of(attribution, status, logits, scores)
