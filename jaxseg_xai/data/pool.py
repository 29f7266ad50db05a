"""A pool of patches, cut out of the images of a data set."""

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Dataset
from jaxseg_xai.ops.patches import PatchPool, image_id


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
