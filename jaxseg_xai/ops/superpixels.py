"""Superpixels: blocks whose borders move to where the image changes (SLIC)."""

import itertools

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import Array
from jaxseg_xai.ops.blocks import block_corner, grid_shape

#: How far one block's side counts beside one standard deviation of a channel, and the rounds.
_COMPACTNESS, _ROUNDS = 0.5, 8


def slic(image: jax.Array, side: int, own: Array | bool = True) -> jax.Array:
    """Simple linear iterative clustering of an image or volume; no superpixel need be connected.

    k-means over colour and place, begun with blocks of a side; a pixel joins one of the clusters
    that began in its own block or those around it. The distance is the colour's, in standard
    deviations of each channel (their mean square), and the place's in sides times 0.5. (SLIC's own
    colours are those of CIELAB; medical images have none.)

    Args:
      image: float32 [*S, C].
      side: of the blocks it begins with, in pixels.
      own: bool [*S, 1], the pixels that count; others get a cluster, too.

    Returns:
      int32 [*S] in [0, number of blocks), the number of the block that the pixel's cluster began
      in, counted row by row. Clusters may be empty.

    References:
      Achanta et al., SLIC superpixels, IEEE TPAMI 34 (2012), without its last step (connectivity).
    """
    *shape, channels = image.shape
    rank, grid = len(shape), grid_shape(shape, side)
    count = 1
    for size in grid:
        count *= size
    weights = jnp.broadcast_to(own, (*shape, 1)).astype(jnp.float32)
    spread = jnp.std(image, axis=tuple(range(rank)), where=jnp.broadcast_to(own, image.shape))
    colour = image / jnp.where(spread > 0, spread, 1.0) / channels**0.5
    axes = [jnp.arange(size, dtype=jnp.float32) for size in shape]
    places = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1) * (_COMPACTNESS / side)
    points = jnp.concatenate([colour, places], axis=-1)
    home = [jnp.arange(size) // side for size in shape]

    def number_of(offset: tuple[int, ...]) -> jax.Array:
        """Of the block beside the pixel's own, int32 [*S]; at the border the own one's."""
        number = jnp.zeros((), jnp.int32)
        for axis, (step, size) in enumerate(zip(offset, grid, strict=True)):
            along = jnp.clip(home[axis] + step, 0, size - 1)
            number = number * size + along.reshape(-1, *[1] * (rank - axis - 1))
        return number.astype(jnp.int32)

    def assign(centres: jax.Array) -> jax.Array:
        best = jnp.full(tuple(shape), jnp.inf)
        found = number_of((0,) * rank)
        for offset in itertools.product((-1, 0, 1), repeat=rank):
            number = number_of(offset)
            distance = jnp.sum((points - centres[number]) ** 2, axis=-1)
            nearer = distance < best
            best, found = jnp.where(nearer, distance, best), jnp.where(nearer, number, found)
        return found

    def centres_of(labels: jax.Array, before: jax.Array) -> jax.Array:
        both = jnp.concatenate([points * weights, weights], axis=-1).reshape(
            -1, rank + channels + 1
        )
        sums = jax.ops.segment_sum(both, labels.ravel(), count)
        area = sums[:, -1:]
        return jnp.where(area > 0, sums[:, :-1] / jnp.maximum(area, 1.0), before)

    def one_round(centres: jax.Array, _: None) -> tuple[jax.Array, None]:
        return centres_of(assign(centres), centres), None

    middles = jax.vmap(lambda number: block_corner(number, grid))(jnp.arange(count))
    middles = (middles + 0.5) * _COMPACTNESS
    nowhere = jnp.concatenate([jnp.zeros((count, channels)), middles], axis=-1)
    start = centres_of(number_of((0,) * rank), nowhere)
    centres, _ = jax.lax.scan(one_round, start, None, length=_ROUNDS)
    return assign(centres)
