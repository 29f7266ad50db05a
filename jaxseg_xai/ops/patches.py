"""A pool of patches from many images, from which an image draws what replaces its own content.

PdCR replaces a block of the image by patches of *other* images. The pool therefore remembers where
each patch comes from, sorted, so that an image's own patches are one range [lo, hi) and a uniform
draw u from the N - (hi - lo) others is the pool index u, or u + (hi - lo) where u >= lo.
"""

import dataclasses
import zlib
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import Array


def image_id(name: str) -> int:
    """A stable number for a sample id: crc32 of its UTF-8 bytes, in [0, 2**32).

    Two names share a number with probability 2**-32; then neither gets the other's patches.
    Under `jit`, pass it as `numpy.uint32`: it need not fit a JAX default int32.
    """
    return zlib.crc32(name.encode())


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchPool:
    """Patches and where they come from.

    Attributes:
      patches: float32 [N, b, b, C].
      sources: uint32 [N], ascending; the `image_id` of the image each patch was cut from.
    """

    patches: Array
    sources: Array

    @property
    def num_patches(self) -> int:
        """N."""
        return self.patches.shape[0]

    @property
    def block_size(self) -> int:
        """b, the side of a patch in pixels."""
        return self.patches.shape[1]

    def check(self, image_ids: Iterable[int], *, min_patches: int = 1) -> None:
        """On the host: raise `DataError` unless every image finds enough patches of others.

        Args:
          image_ids: the `image_id`s of the images that will draw.
          min_patches: how many patches of other images each must find, >= 1.
        """
        sources = np.asarray(self.sources)
        for number in image_ids:
            wanted = np.uint32(number)
            own = np.searchsorted(sources, wanted, "right") - np.searchsorted(sources, wanted)
            if len(sources) - own < min_patches:
                raise DataError(
                    f"patch pool smaller than needed: {len(sources) - own} of {len(sources)}"
                    f" patches come from images other than {number}, {min_patches} are needed;"
                    " build the pool from more images, or with more patches"
                )


def draw_patches(
    key: jax.Array, image_id: Array | int, pool: PatchPool, num_blocks: int, num_draws: int
) -> jax.Array:
    """Draw, for every block, pool indices of patches of other images.

    Uniform (up to N / 2**32, as the remainder of 32 random bits) with replacement. Draw d of block
    k depends on (key, image, k, d) only: not on how many blocks or draws are asked for, nor on what
    else is in the batch. Works under `jit` (static `num_blocks`, `num_draws`) and `vmap`.

    Args:
      key: from `jax.random.key`.
      image_id: uint32 [], of the image that draws; see `image_id`.
      pool: must hold a patch of another image, which `pool.check` makes sure of on the host; else
        the draws are of the image's own patches, since indices always lie in the pool.
      num_blocks: K.
      num_draws: D per block.

    Returns:
      int32 [K, D] in [0, N).
    """
    sources = jnp.asarray(pool.sources)
    number = jnp.asarray(image_id, sources.dtype)
    low = jnp.searchsorted(sources, number, side="left").astype(jnp.int32)
    own = jnp.searchsorted(sources, number, side="right").astype(jnp.int32) - low
    # At least 1, so that the remainder exists in a pool that `check` would have refused.
    others = jnp.maximum(pool.num_patches - own, 1).astype(jnp.uint32)
    image_key = jax.random.fold_in(key, number)

    def draw(block: jax.Array, count: jax.Array) -> jax.Array:
        draw_key = jax.random.fold_in(jax.random.fold_in(image_key, block), count)
        return jax.random.bits(draw_key) % others

    per_block = jax.vmap(draw, in_axes=(None, 0))
    blocks, draws = jnp.arange(num_blocks), jnp.arange(num_draws)
    drawn = jax.vmap(per_block, in_axes=(0, None))(blocks, draws).astype(jnp.int32)
    return jnp.minimum(jnp.where(drawn >= low, drawn + own, drawn), pool.num_patches - 1)
