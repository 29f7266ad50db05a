"""SmoothGrad: the gradient of an outcome, averaged over noisy copies of the image."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Explainer, Meta, Parts, Problem
from jaxseg_xai.outcomes import OUTCOMES, get_outcome


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothGrad(Explainer):
    """Mean gradient of an outcome over copies of the image with normal noise.

    With F the outcome (by default the logits of class c summed over its predicted pixels) and noise
    e of standard deviation s (max x - min x),

        a = sum over channels of the mean over n draws of e of grad F(x + e).

    Positive: a brighter pixel speaks for the class. The pixels explained stay those of the image
    without noise.

    Attribution float32 [*S], signed, in units of the outcome per unit of the input. Scores:
    `outcome` F(x); `mean_outcome` over the noisy copies; `area_target` in pixels.

    Attributes:
      num_samples: n; 1 with `noise` 0 is the plain gradient.
      noise: s, a share of the image's range.
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.

    References:
      Smilkov et al., arXiv 1706.03825, section 2 (50 samples, noise of 10 to 20 %).
    """

    name: ClassVar[str] = "smooth_grad"
    meta: ClassVar[Meta] = Meta(
        unit="{outcome} per unit of the input",
        signed=True,
        needs=frozenset({"gradient"}),
        note="Red: a brighter pixel speaks for the class; blue: against it.",
        caption="Outcome {outcome:.0f}; {mean_outcome:.0f} with noise.",
        scores={
            "outcome": "outcome of the image",
            "mean_outcome": "mean outcome of the noisy copies",
            "area_target": "pixels explained",
        },
    )
    num_samples: int = setting(50, static=True, at_least=1)
    noise: float = setting(0.15, at_least=0)
    outcome: str = setting("summed_logits", static=True, choices=OUTCOMES)

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return 3 * self.num_samples

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        segmenter, target, image = problem.segmenter, example.target, example.image
        outcome = get_outcome(self.outcome)
        own = jnp.broadcast_to(example.own, image.shape)
        highest = jnp.max(image, where=own, initial=-jnp.inf)
        lowest = jnp.min(image, where=own, initial=jnp.inf)
        deviation = jnp.where(own, self.noise * (highest - lowest), 0.0)

        def value(x: jax.Array) -> jax.Array:
            logits = segmenter.logits(problem.variables, x[None])[0]
            return outcome.value(segmenter.output, logits, target)

        def one_sample(sums: tuple[jax.Array, jax.Array], number: jax.Array) -> tuple[tuple, None]:
            key = jax.random.fold_in(example.key, number)
            noisy = image + deviation * jax.random.normal(key, image.shape, image.dtype)
            found, slope = jax.value_and_grad(value)(noisy)
            return (sums[0] + slope, sums[1] + found), None

        # One after the other: what is kept is one gradient.
        nothing = (jnp.zeros_like(image), jnp.float32(0))
        (slope, total), _ = lax.scan(one_sample, nothing, jnp.arange(self.num_samples))
        return Parts(
            attribution=jnp.sum(slope, axis=-1) / self.num_samples,
            scores={
                "outcome": outcome.value(segmenter.output, example.logits, target),
                "mean_outcome": total / self.num_samples,
                "area_target": jnp.sum(target.segment, dtype=jnp.float32),
            },
        )
