"""Curves of what is left of a segment while the image is deleted, or shown, block by block."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, Rated
from jaxseg_xai.metrics.baseline import BASELINES, Baseline, blank_image
from jaxseg_xai.metrics.evaluate import IN_POINTS, evaluate_each, outcomes_of
from jaxseg_xai.ops.blocks import grid_shape, paint_blocks, sum_in_block


class Curve(NamedTuple):
    """Outcomes along a curve.

    Attributes:
      fractions: float32 [K + 1] from 0 to 1, of the blocks.
      values: name -> float32 [K + 1]; those in points as shares of 1.
    """

    fractions: jax.Array
    values: dict[str, jax.Array]

    def area(self, name: str) -> jax.Array:
        """Area under a curve by trapezoids, float32 []."""
        return jnp.trapezoid(self.values[name], self.fractions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveMetric(Metric):
    """Base of the metrics that read such a curve; those of equal settings evaluate it once.

    Blocks are ordered by their mean relevance (equal ones row by row). At the fractions k / K that
    part of the blocks, whole ones, is deleted or shown.

    Attributes:
      num_steps: K; each step is a forward pass.
      block_size: side of a block in pixels; 1 goes pixel by pixel, which networks see as noise.
      baseline: what a deleted pixel holds, see `jaxseg_xai.metrics.baseline`.
    """

    num_steps: int = setting(20, static=True, at_least=1)
    block_size: int = setting(8, static=True, at_least=1)
    baseline: Baseline = setting("zero", static=True, choices=BASELINES)

    @property
    def num_passes(self) -> int:
        """See `Metric.num_passes`."""
        return self.num_steps

    def deletion_curve(self, problem: Problem, example: Example, rated: Rated) -> Curve:
        """Outcomes while the most relevant blocks are deleted first; K forward passes."""

        def compute() -> Curve:
            hidden = lambda place, count: place < count  # noqa: E731
            counts, fractions, image_of = self._changes(example, rated, hidden)
            rest = evaluate_each(problem, example, image_of, counts[1:])
            return _joined(fractions, outcomes_of(problem, example, example.logits), rest)

        return rated.once(("deleted", *self._settings), compute)

    def insertion_curve(self, problem: Problem, example: Example, rated: Rated) -> Curve:
        """Outcomes while the most relevant blocks are shown first; K forward passes.

        Read from its end it is the curve of the least relevant blocks deleted first.
        """

        def compute() -> Curve:
            hidden = lambda place, count: place >= count  # noqa: E731
            counts, fractions, image_of = self._changes(example, rated, hidden)
            rest = evaluate_each(problem, example, image_of, counts[:-1])
            return _joined(fractions, rest, outcomes_of(problem, example, example.logits))

        return rated.once(("shown", *self._settings), compute)

    @property
    def _settings(self) -> tuple:
        return self.num_steps, self.block_size, self.baseline

    def _changes(
        self, example: Example, rated: Rated, hidden: Callable[[jax.Array, jax.Array], jax.Array]
    ) -> tuple[jax.Array, jax.Array, Callable[[jax.Array], jax.Array]]:
        """Numbers of blocks int32 [K + 1], their shares, and the image at a number of blocks."""
        image, own = example.image, jnp.asarray(example.own)
        place, blocks = places(rated.relevance, own, self.block_size)
        blank = blank_image(self.baseline, example)
        counts = jnp.array([k * blocks // self.num_steps for k in range(self.num_steps + 1)])

        def image_of(count: jax.Array) -> jax.Array:
            return jnp.where(hidden(place, count)[..., None] & own, blank, image)

        return counts, counts / blocks, image_of


def places(relevance: jax.Array, own: jax.Array, side: int) -> tuple[jax.Array, jax.Array]:
    """Place of each pixel's block among the blocks, the most relevant first.

    Args:
      relevance: float32 [*S].
      own: bool [*S, 1] or [], which pixels are the image's own.
      side: of the blocks.

    Returns:
      (int32 [*S]; how many blocks have own pixels).
    """
    size = relevance.shape
    pixels = jnp.broadcast_to(own, (*size, 1))[..., 0]
    area = sum_in_block(pixels.astype(jnp.float32), side)
    # Blocks of padding come last, and are never reached.
    mean = jnp.where(area > 0, sum_in_block(relevance, side) / area, -jnp.inf)
    order = jnp.argsort(-mean.ravel(), stable=True)
    place = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
    return paint_blocks(place.reshape(grid_shape(size, side)), side, size), jnp.sum(area > 0)


def _joined(fractions: jax.Array, first: dict[str, jax.Array], last: dict[str, jax.Array]) -> Curve:
    values = {}
    for name in first:
        values[name] = jnp.concatenate([jnp.atleast_1d(first[name]), jnp.atleast_1d(last[name])])
        if name in IN_POINTS:
            values[name] /= 100
    return Curve(fractions, values)
