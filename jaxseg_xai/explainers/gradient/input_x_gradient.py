"""Gradient x input: each pixel's share of an outcome, by the gradient at the image itself."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.gradient.base import GradientMethod


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class InputXGradient(GradientMethod):
    """Gradient x input of an outcome.

    With F the outcome (by default the logits of class c summed over its predicted pixels),

        a = sum over channels of x * grad F(x).

    Positive: the pixel, as it is, speaks for the class. Of a linear model it is integrated
    gradients; elsewhere the pixels do not add up to F(x) - F(0), and a saturated pixel gets 0.

    Attribution float32 [*S], signed, in units of the outcome. Scores: `outcome` F(x);
    `area_target` in pixels.

    References:
      Shrikumar et al., arXiv 1605.01713, section 2.
    """

    name: ClassVar[str] = "input_x_gradient"
    meta: ClassVar[Meta] = Meta(
        unit="{outcome}",
        signed=True,
        needs=frozenset({"gradient"}),
        note="Red: for the class; blue: against it.",
        caption="Outcome {outcome:.0f}.",
        scores={"outcome": "outcome of the image", "area_target": "pixels explained"},
    )

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return 3

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""

        def value(image: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = problem.segmenter.logits(problem.variables, image[None])[0]
            return self.value_of_logits(problem, example, logits), logits

        (found, logits), slope = jax.value_and_grad(value, has_aux=True)(example.image)
        return Parts(
            attribution=jnp.sum(jnp.where(example.own, slope * example.image, 0.0), axis=-1),
            scores={
                "outcome": found,
                "area_target": jnp.sum(example.target.segment, dtype=jnp.float32),
            },
            logits=logits,
        )
