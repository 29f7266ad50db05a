"""SmoothGrad: the gradient of an outcome, averaged over noisy copies of the image."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.gradient.base import GradientMethod


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothGrad(GradientMethod):
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

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return 3 * self.num_samples

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        image, value = example.image, self.value_of(problem, example)
        own = jnp.broadcast_to(example.own, image.shape)
        highest = jnp.max(image, where=own, initial=-jnp.inf)
        lowest = jnp.min(image, where=own, initial=jnp.inf)
        deviation = jnp.where(own, self.noise * (highest - lowest), 0.0)

        def one_sample(sofar: tuple, number: jax.Array) -> tuple[tuple, None]:
            key = jax.random.fold_in(example.key, number)
            noisy = image + deviation * jax.random.normal(key, image.shape, image.dtype)
            found, slope = jax.value_and_grad(value)(noisy)
            mean, squares, total = sofar
            # Welford's sums: the squares are of the distances from the mean, and nothing cancels.
            distance = jnp.sum(slope, axis=-1) - mean
            mean += distance / (number + 1)
            squares += distance**2 * number / (number + 1)
            return (mean, squares, total + found), None

        # One after the other: what is kept is one gradient.
        nothing = jnp.zeros_like(image[..., 0])
        numbers = jnp.arange(self.num_samples)
        sums, _ = lax.scan(one_sample, (nothing, nothing, jnp.float32(0)), numbers)
        mean, squares, total = sums
        return Parts(
            attribution=self.combine(mean, squares / self.num_samples),
            scores={
                "outcome": self.value_of_logits(problem, example, example.logits),
                "mean_outcome": total / self.num_samples,
                "area_target": jnp.sum(example.target.segment, dtype=jnp.float32),
            },
        )

    def combine(self, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """The attribution, from mean and variance over the draws, float32 [*S]."""
        del variance
        return mean
