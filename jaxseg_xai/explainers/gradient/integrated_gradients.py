"""Integrated gradients: each pixel's share of what the image has more of an outcome than black."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Explainer, Meta, Parts, Problem
from jaxseg_xai.ops.path_integral import mean_gradient
from jaxseg_xai.outcomes import OUTCOMES, get_outcome


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class IntegratedGradients(Explainer):
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
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.

    References:
      Sundararajan et al., arXiv 1703.01365, eq. 1.
    """

    name: ClassVar[str] = "integrated_gradients"
    meta: ClassVar[Meta] = Meta(
        unit="{outcome}",
        signed=True,
        needs=frozenset({"gradient"}),
        note="Red: for the class; blue: against it.",
        caption="Outcome {outcome:.0f}; of a black image {baseline_outcome:.0f}. The pixels add up "
        "to the difference but for {completeness_gap:.0f}.",
        scores={
            "outcome": "outcome of the image",
            "baseline_outcome": "outcome of an image of zeros",
            "completeness_gap": "how far the attribution is from adding up, in the same unit",
            "area_target": "pixels explained",
        },
    )
    num_nodes: int = setting(50, static=True, at_least=1)
    outcome: str = setting("summed_logits", static=True, choices=OUTCOMES)

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return 3 * self.num_nodes

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        segmenter, target = problem.segmenter, example.target
        outcome = get_outcome(self.outcome)

        def value(image: jax.Array) -> jax.Array:
            logits = segmenter.logits(problem.variables, image[None])[0]
            return outcome.value(segmenter.output, logits, target)

        # Padding is on the whole path what it is in the image.
        step = jnp.where(example.own, example.image, 0.0)
        black = jnp.where(example.own, 0.0, example.image)
        slope = mean_gradient(jax.grad(value), black, step, self.num_nodes)
        attribution = jnp.sum(slope * step, axis=-1)
        end = outcome.value(segmenter.output, example.logits, target)
        start = value(black)
        gap = jnp.abs(jnp.sum(attribution) - (end - start))
        return Parts(
            attribution=attribution,
            scores={
                "outcome": end,
                "baseline_outcome": start,
                "completeness_gap": gap,
                "area_target": jnp.sum(target.segment, dtype=jnp.float32),
            },
            # The gap is NaN wherever a gradient is.
            finite=jnp.isfinite(gap),
        )
