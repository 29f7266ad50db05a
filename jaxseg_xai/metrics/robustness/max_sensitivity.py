"""Max-sensitivity: how far the map moves when the image moves a little."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Batch, Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated, keys_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MaxSensitivity(Metric):
    """Largest relative change of the map over images y near the image x:

        sensitivity = max over n of |a(y) - a(x)| / |a(x)|,   y = x + u,

    u uniform in [-radius, radius] for every value, |.| the Euclidean norm over the pixels. The
    target stays as it is. At least 0; lower is better. NaN of a map of zeros, or where one of the
    explanations failed.

    It needs n further explanations.

    Attributes:
      num_again: n; the maximum of few draws is a lower bound of the published one.
      radius: in units of the prepared image.

    References:
      Yeh et al., arXiv 1901.09392, definition 4.1; relative to the map as in Captum's
      `sensitivity_max`.
    """

    name: ClassVar[str] = "max_sensitivity"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, None),
        better="lower",
        headline="sensitivity",
        scores={"sensitivity": "largest relative change of the map"},
        needs=frozenset({"explain"}),
    )
    num_again: int = setting(8, static=True, at_least=1)
    radius: float = setting(0.02, above=0)

    @property
    def num_explanations(self) -> int:
        """See `Metric.num_explanations`."""
        return self.num_again

    def changed(self, problem: Problem, batch: Batch, number: jax.Array) -> tuple[Problem, Batch]:
        """See `Metric.changed`."""

        def moved(image: jax.Array, key: jax.Array) -> jax.Array:
            draws = jax.random.fold_in(key, number)
            u = jax.random.uniform(draws, image.shape, jnp.float32, -self.radius, self.radius)
            return image + u

        images = jax.vmap(moved)(jnp.asarray(batch.images), keys_of(problem, batch))
        return problem, dataclasses.replace(batch, images=images)

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem, example
        axes = tuple(range(1, rated.again.ndim))
        off = jnp.sqrt(jnp.sum((rated.again - rated.relevance) ** 2, axis=axes))
        norm = jnp.sqrt(jnp.sum(rated.relevance**2))
        return {"sensitivity": jnp.max(off) / jnp.where(norm > 0, norm, jnp.nan)}
