"""How far methods agree about the same images: by the order of the pixels, and by the largest."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Array, Explanation
from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.metrics.base import usable
from jaxseg_xai.ops.ranking import rank_correlations


class BetweenMethods(NamedTuple):
    """Agreement of every two of m methods on B images; NaN where a map is constant or missing.

    Attributes:
      rank_correlation: float32 [B, m, m], Spearman's over the pixels, in [-1, 1].
      iou: float32 [B, m, m], intersection over union of the most relevant pixels, in [0, 1].
    """

    rank_correlation: jax.Array
    iou: jax.Array


def compare_methods(
    relevances: Array, own: Array | bool = True, *, share: float = 0.1
) -> BetweenMethods:
    """Compare the maps of m methods, image by image, on the device.

    Args:
      relevances: float32 [m, B, *S], from `relevance_of`; NaN where there is no map.
      own: bool [B, *S], pixels that are no padding.
      share: of the pixels that count as the most relevant, in (0, 1). Of those that are equal at
        the end each counts by the same part; intersection and union are sums of minima and maxima.

    Raises:
      ConfigError: `share` out of its bounds, or maps of another form.
    """
    relevances = jnp.asarray(relevances, jnp.float32)
    if not 0 < share < 1:
        raise ConfigError(f"share is {share}; it must be above 0 and below 1")
    if relevances.ndim not in (4, 5):
        raise ConfigError(
            f"maps are {relevances.shape}; stack those of the methods, [methods, images, *S]"
        )
    return _compared(relevances, jnp.broadcast_to(own, relevances.shape[1:]), share)


def relevance_of(explanations: Explanation, meta: Meta) -> jax.Array:
    """Maps float32 [B, *S] that are high where they speak for the segment; NaN where none is.

    Args:
      explanations: leaves [B, ...].
      meta: of the method.

    Raises:
      ConfigError: maps that say nothing for or against the segment.
    """
    if explanations.attribution is None or meta.high == "neither":
        raise ConfigError(
            f"maps of {meta.unit} are not of relevance; choose a method whose map speaks for or "
            "against the segment"
        )
    relevance = jnp.asarray(explanations.attribution) * (-1.0 if meta.high == "against" else 1.0)
    there = jax.vmap(usable)(explanations)
    return jnp.where(there.reshape(-1, *[1] * (relevance.ndim - 1)), relevance, jnp.nan)


@functools.partial(jax.jit, static_argnames=("share",))
def _compared(relevances: jax.Array, own: jax.Array, share: float) -> BetweenMethods:
    def one(image: tuple[jax.Array, jax.Array]) -> BetweenMethods:
        maps, pixels = image
        there = jnp.all(jnp.isfinite(maps) | ~pixels, axis=tuple(range(1, maps.ndim)))
        maps = jnp.where(pixels & jnp.isfinite(maps), maps, 0.0)
        parts = jax.vmap(lambda values: _membership(values, pixels, share))(maps).reshape(
            len(maps), -1
        )

        def with_all(part: jax.Array) -> jax.Array:
            both, either = jnp.minimum(part, parts), jnp.maximum(part, parts)
            return jnp.sum(both, axis=1) / jnp.sum(either, axis=1)

        ranks = rank_correlations(maps, pixels)
        defined = there[:, None] & there & ~jnp.isnan(ranks)
        iou = jax.lax.map(with_all, parts)
        return BetweenMethods(
            *(jnp.where(defined, found, jnp.nan) for found in (ranks, iou)),
        )

    return jax.lax.map(one, (jnp.moveaxis(relevances, 1, 0), own))


def _membership(values: jax.Array, own: jax.Array, share: float) -> jax.Array:
    """How far each pixel is one of the most relevant, in [0, 1]; they add up to their number."""
    number = jnp.maximum(1, jnp.round(share * jnp.sum(own))).astype(jnp.int32)
    values = jnp.where(own, values, -jnp.inf)
    last = jnp.sort(values.ravel())[::-1][number - 1]
    above, equal = values > last, (values == last) & own
    part = (number - jnp.sum(above)) / jnp.maximum(jnp.sum(equal), 1)
    return jnp.where(above, 1.0, jnp.where(equal, part, 0.0))
