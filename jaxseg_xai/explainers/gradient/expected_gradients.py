"""Expected gradients: integrated gradients whose baselines are other images."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.gradient.base import PathMethod, path_meta


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpectedGradients(PathMethod):
    """Expected gradients of an outcome: integrated gradients whose baselines are other images.

    With F the outcome (by default the logits of class c summed over its predicted pixels), x' one
    of `num_others` other images and s uniform in [0, 1],

        a = sum over channels of the mean over n draws of s of (x - x') * grad F(x' + s (x - x')),

    so that all pixels together get F(x) less the mean of F(x') over the other images, but for the
    error of the draws. Each other image gets as many draws as any, one from each of as many equal
    parts of [0, 1]. Positive: what the pixel has other than other images speaks for the class.

    Attribution float32 [*S], signed, in units of the outcome. Scores: `outcome` F(x);
    `baseline_outcome`, the mean of F(x'); `completeness_gap` |sum of the attribution - (F(x) - mean
    F(x'))|; `area_target` in pixels.

    Attributes:
      num_samples: n; rounded up to a multiple of `num_others`.
      num_others: other images, for each image.

    References:
      Erion et al., arXiv 1906.10670, eq. 2; stratified draws of s are ours.
    """

    name: ClassVar[str] = "expected_gradients"
    meta: ClassVar[Meta] = path_meta("other images on average", "others")
    num_samples: int = setting(50, static=True, at_least=1)
    num_others: int = setting(5, static=True, at_least=1)

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        del shape
        return 3 * self._each * self.num_others + self.num_others

    @property
    def _each(self) -> int:
        """Draws of every other image."""
        return -(-self.num_samples // self.num_others)

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        image, others, value = example.image, example.others, self.value_of(problem, example)
        assert others is not None  # the runner saw to it

        def one_sample(total: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
            # Padding is on the whole path what it is in the image.
            other = jnp.where(example.own, others[number // self._each], image)
            part = jax.random.uniform(jax.random.fold_in(example.key, number))
            share = (number % self._each + part) / self._each
            step = image - other
            return total + step * jax.grad(value)(other + share * step), None

        def one_other(total: jax.Array, other: jax.Array) -> tuple[jax.Array, None]:
            return total + value(jnp.where(example.own, other, image)), None

        # One after the other: what is kept is one gradient.
        count = self._each * self.num_others
        total, _ = lax.scan(one_sample, jnp.zeros_like(image), jnp.arange(count))
        baseline, _ = lax.scan(one_other, jnp.float32(0), others)
        attribution = jnp.sum(total, axis=-1) / count
        return self.parts(problem, example, attribution, baseline / self.num_others)
