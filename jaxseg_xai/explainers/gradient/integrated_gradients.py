"""Integrated gradients: each pixel's share of what the image has more of an outcome than black."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.gradient.base import PathMethod, path_meta
from jaxseg_xai.ops.path_integral import mean_gradient


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class IntegratedGradients(PathMethod):
    """Integrated gradients of an outcome, from an image of zeros.

    With F the outcome (by default the logits of class c summed over its predicted pixels), a pixel
    gets

        a = sum over channels of x * integral over s in [0, 1] of grad F(s x) ds,

    so that all pixels together get F(x) - F(0). Positive: the pixel, as it is, speaks for the
    class. The nodes are Gauss-Legendre's, as in Captum, whose number is the default here.

    Attribution float32 [*S], signed, in units of the outcome. Scores: `outcome` F(x);
    `baseline_outcome` F(0); `completeness_gap` |sum of the attribution - (F(x) - F(0))|, which goes
    to 0 with `num_nodes`; `area_target` in pixels.

    Attributes:
      num_nodes: gradients on the path from 0 to the image; more make `completeness_gap` smaller.

    References:
      Sundararajan et al., arXiv 1703.01365, eq. 1.
    """

    name: ClassVar[str] = "integrated_gradients"
    meta: ClassVar[Meta] = path_meta("a black image")
    num_nodes: int = setting(50, static=True, at_least=1)

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return 3 * self.num_nodes

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        # Padding is on the whole path what it is in the image.
        step = jnp.where(example.own, example.image, 0.0)
        black = jnp.where(example.own, 0.0, example.image)
        value = self.value_of(problem, example)
        slope = mean_gradient(jax.grad(value), black, step, self.num_nodes)
        return self.parts(problem, example, jnp.sum(slope * step, axis=-1), value(black))
