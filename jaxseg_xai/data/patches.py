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

from jaxseg_xai.errors import ConfigError, DataError
from jaxseg_xai.types import Array, Dataset


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


def build_patch_pool(
    dataset: Dataset, *, block_size: int, num_patches: int, seed: int, max_images: int = 256
) -> PatchPool:
    """Cut patches at random positions out of random images, equally many of each (give or take 1).

    Images that cannot be read or are smaller than the block are skipped; the others give a few more
    patches each.

    Args:
      dataset: where the images [H, W, C] come from, all with the same C.
      block_size: side b of a patch in pixels, >= 1.
      num_patches: N, >= 2.
      seed: >= 0; which images and which positions.
      max_images: at most so many images are used, >= 2.

    Returns:
      The pool, patches float32 [N, b, b, C] on the host.

    Raises:
      ConfigError: a number out of its range.
      DataError: fewer than two usable images, or images of different C.
    """
    if block_size < 1 or num_patches < 2 or seed < 0 or max_images < 2:
        raise ConfigError(
            f"block_size={block_size}, num_patches={num_patches}, seed={seed},"
            f" max_images={max_images}: at least 1, 2, 0 and 2"
        )
    count = min(len(dataset), max_images, num_patches)
    order = np.random.default_rng(seed).permutation(len(dataset))
    # Slices of one volume lie side by side: in this order each volume is read once.
    order = np.concatenate([np.sort(order[:count]), order[count:]])
    share = -(-num_patches // max(count, 1))
    # (rank of the patch within its image, source, patch): sorted by rank, the first N are even.
    cuts: list[tuple[int, int, np.ndarray]] = []
    usable: list[int] = []
    refused = ""
    for index in map(int, order):
        if len(usable) == count:
            break
        try:
            cuts += _cut(dataset[index].image, dataset.ids[index], block_size, seed, range(share))
        except DataError as error:
            refused = f" (one that cannot: {error})"
        else:
            usable.append(index)
    if len({source for _, source, _ in cuts}) < 2:
        raise DataError(
            f"patch pool smaller than needed: {len(usable)} of {len(dataset)} images can give"
            f" patches; at least two are needed, as an image never gets its own{refused}"
        )
    missing = num_patches - len(cuts)
    if missing > 0:
        extra = range(share, share - (-missing // len(usable)))
        for index in usable:
            cuts += _cut(dataset[index].image, dataset.ids[index], block_size, seed, extra)
    if len({patch.shape[-1] for _, _, patch in cuts}) > 1:
        raise DataError("patch pool: the images differ in their number of channels; convert them")
    cuts.sort(key=lambda cut: cut[0])
    cuts = sorted(cuts[:num_patches], key=lambda cut: cut[1])
    return PatchPool(
        patches=np.stack([patch for _, _, patch in cuts]).astype(np.float32),
        sources=np.array([source for _, source, _ in cuts], np.uint32),
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


def _cut(
    image: np.ndarray, name: str, block_size: int, seed: int, ranks: range
) -> list[tuple[int, int, np.ndarray]]:
    """Patches number `ranks` of an image, as (rank, source, float32 [b, b, C])."""
    height, width = image.shape[:2]
    if min(height, width) < block_size:
        raise DataError(
            f"{name} is {height}x{width}, smaller than the block ({block_size});"
            " choose a smaller block_size"
        )
    source = image_id(name)
    cuts = []
    for rank in ranks:
        rng = np.random.default_rng([seed, source, rank])
        y = rng.integers(height - block_size + 1)
        x = rng.integers(width - block_size + 1)
        cuts.append((rank, source, image[y : y + block_size, x : x + block_size].copy()))
    return cuts
