"""Random subsets of blocks: the relevance of each, and the drop of the outcome without it."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, Rated
from jaxseg_xai.metrics.baseline import BASELINES, Baseline, blank_image
from jaxseg_xai.metrics.evaluate import evaluate_each, outcomes_of
from jaxseg_xai.ops.blocks import grid_shape, paint_blocks, sum_in_block
from jaxseg_xai.outcomes import OUTCOMES


@dataclasses.dataclass(frozen=True, kw_only=True)
class SubsetMetric(Metric):
    """Base of the metrics that delete random subsets; those of equal settings evaluate them once.

    Attributes:
      num_subsets: n; each is a forward pass.
      share: of the blocks that a subset has, all of them equally many (one at least).
      block_size: side of a block in pixels.
      baseline: what a deleted pixel holds, see `jaxseg_xai.metrics.baseline`.
      outcome: see `jaxseg_xai.outcomes`.
    """

    num_subsets: int = setting(50, static=True, at_least=2)
    share: float = setting(0.2, static=True, above=0, below=1)
    block_size: int = setting(8, static=True, at_least=1)
    baseline: Baseline = setting("zero", static=True, choices=BASELINES)
    outcome: str = setting("summed_logits", static=True, choices=OUTCOMES.built_in)

    @property
    def num_passes(self) -> int:
        """See `Metric.num_passes`."""
        return self.num_subsets

    def sums_and_drops(
        self, problem: Problem, example: Example, rated: Rated
    ) -> tuple[jax.Array, jax.Array]:
        """Sum of the relevance in each subset, and the drop O(x) - O(without it), float32 [n]."""

        def compute() -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
            blank, own = blank_image(self.baseline, example), jnp.asarray(example.own)

            def without(number: jax.Array) -> jax.Array:
                chosen = self.subset(example, number)[..., None]
                return jnp.where(chosen & own, blank, example.image)

            found = evaluate_each(problem, example, without, numbers)
            return outcomes_of(problem, example, example.logits), found

        numbers = jnp.arange(self.num_subsets)
        settings = (self.num_subsets, self.share, self.block_size, self.baseline)
        whole, found = rated.once(("subsets", *settings), compute)
        sums = jax.lax.map(
            lambda number: jnp.sum(rated.relevance * self.subset(example, number)), numbers
        )
        return sums, whole[self.outcome] - found[self.outcome]

    def subset(self, example: Example, number: jax.Array | int) -> jax.Array:
        """The pixels of one of the subsets, bool [*S], drawn from the example's key."""
        shape, side = example.image.shape[:-1], self.block_size
        pixels = jnp.broadcast_to(example.own, (*shape, 1))[..., 0]
        owned = sum_in_block(pixels.astype(jnp.float32), side).ravel() > 0
        count = jnp.maximum(1, jnp.round(self.share * jnp.sum(owned)))
        lots = jax.random.uniform(jax.random.fold_in(example.key, number), owned.shape)
        order = jnp.argsort(jnp.where(owned, lots, 2.0))
        chosen = jnp.zeros(owned.shape, bool).at[order].set(jnp.arange(owned.size) < count)
        return paint_blocks(chosen.reshape(grid_shape(shape, side)), side, shape)
