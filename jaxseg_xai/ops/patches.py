"""A pool of patches from many images, from which an image draws what replaces its own content.

PdCR replaces a block of the image by patches of *other* images. The pool therefore remembers where
each patch comes from. Slices of one volume and images of one patient are nearly the same image:
they are no other images to each other, and a patch comes from their group.
"""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import Array
from jaxseg_xai.ops.random import fold_words, image_id, random_word


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchPool:
    """Patches and where they come from.

    Attributes:
      patches: float32 [N, *(b,), C], b as often as the images have axes.
      sources: uint32 [N, 2], ascending; where each patch was cut from, the `image_id` of the
        image's group, or of the image where it has none.
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

    def check(self, names: Iterable[str]) -> None:
        """On the host: raise `DataError` unless every image finds a patch of another.

        Args:
          names: ids, or groups, of the samples that will draw.
        """
        sources = np.asarray(self.sources)
        if (sources[0] != sources[-1]).any():  # they are sorted
            return
        for name in names:
            if (sources[0] == image_id(name)).all():
                raise DataError(
                    f"patch pool smaller than needed: all {len(sources)} patches come from {name} "
                    "itself; build the pool from images of another patient or volume"
                )


def draw_patches(
    key: jax.Array,
    image: Array,
    pool: PatchPool,
    num_blocks: int,
    num_draws: int,
    group: Array | None = None,
) -> jax.Array:
    """Draw, for every block, pool indices of patches of other images.

    Uniform (up to N / 2**32, as the remainder of 32 random bits) with replacement. Draw d of block
    k depends on (key, image, k, d) only: not on how many blocks or draws are asked for, nor on what
    else is in the batch. Works under `jit` (static `num_blocks`, `num_draws`) and `vmap`.

    Args:
      key: from `ops.random.make_key`, whatever is folded into it.
      image: uint32 [2], `image_id` of the image that draws.
      pool: must hold a patch of another image, which `pool.check` makes sure of on the host; else
        the draws are of the image's own patches, since indices always lie in the pool.
      num_blocks: K.
      num_draws: D per block.
      group: uint32 [2], `image_id` of what the image belongs to; None: to nothing.

    Returns:
      int32 [K, D] in [0, N).
    """
    own = jnp.all(jnp.asarray(pool.sources) == image, axis=1)
    if group is not None:
        own |= jnp.all(jnp.asarray(pool.sources) == group, axis=1)
    other = jnp.nonzero(~own, size=pool.num_patches, fill_value=0)[0].astype(jnp.int32)
    # At least 1, so that the remainder exists in a pool that `check` would have refused.
    count = jnp.maximum(jnp.sum(~own), 1).astype(jnp.uint32)
    image_key = fold_words(key, image)

    def draw(block: jax.Array, number: jax.Array) -> jax.Array:
        draw_key = jax.random.fold_in(jax.random.fold_in(image_key, block), number)
        return other[random_word(draw_key) % count]

    per_block = jax.vmap(draw, in_axes=(None, 0))
    blocks, draws = jnp.arange(num_blocks), jnp.arange(num_draws)
    return jax.vmap(per_block, in_axes=(0, None))(blocks, draws)
