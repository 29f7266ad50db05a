"""What methods that differentiate an outcome have in common."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Explainer, Meta, Need, Parts, Problem
from jaxseg_xai.outcomes import OUTCOMES, get_outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientMethod(Explainer):
    """A method that differentiates an outcome with respect to the image.

    Attributes:
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.
    """

    outcome: str = setting("summed_logits", static=True, choices=OUTCOMES)

    def value_of(self, problem: Problem, example: Example) -> Callable[[jax.Array], jax.Array]:
        """F, what is differentiated: an image [*S, C] -> its outcome, float32 []."""

        def value(image: jax.Array) -> jax.Array:
            logits = problem.segmenter.logits(problem.variables, image[None])[0]
            return self.value_of_logits(problem, example, logits)

        return value

    def value_of_logits(self, problem: Problem, example: Example, logits: jax.Array) -> jax.Array:
        """The outcome of logits [*S, K], float32 []."""
        return get_outcome(self.outcome).value(problem.segmenter.output, logits, example.target)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PathMethod(GradientMethod):
    """One whose pixels add up to F(x) less the outcome of a baseline, but for its own errors."""

    def parts(
        self, problem: Problem, example: Example, attribution: jax.Array, start: jax.Array
    ) -> Parts:
        """What is found.

        Args:
          problem: what all examples share.
          example: what was explained.
          attribution: float32 [*S].
          start: outcome of the baseline, float32 [].
        """
        end = self.value_of_logits(problem, example, example.logits)
        gap = jnp.abs(jnp.sum(attribution) - (end - start))
        return Parts(
            attribution=attribution,
            scores={
                "outcome": end,
                "baseline_outcome": start,
                "completeness_gap": gap,
                "area_target": jnp.sum(example.target.segment, dtype=jnp.float32),
            },
            # The gap is NaN wherever a gradient is.
            finite=jnp.isfinite(gap),
        )


def path_meta(baseline: str, *needs: Need) -> Meta:
    """The `Meta` of a `PathMethod`: its baseline in words; what it needs beside the gradient."""
    return Meta(
        unit="{outcome}",
        signed=True,
        needs=frozenset(("gradient", *needs)),
        note="Red: for the class; blue: against it.",
        caption=f"Outcome {{outcome:.0f}}; of {baseline} {{baseline_outcome:.0f}}. The pixels add "
        "up to the difference but for {completeness_gap:.0f}.",
        scores={
            "outcome": "outcome of the image",
            "baseline_outcome": f"outcome of {baseline}",
            "completeness_gap": "how far the attribution is from adding up, in the same unit",
            "area_target": "pixels explained",
        },
    )
