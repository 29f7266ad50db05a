"""A pool of patches, cut out of the images of a data set."""

import dataclasses
from pathlib import Path

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data.checks import read_item
from jaxseg_xai.data.pdcr import read_patches
from jaxseg_xai.ops.patches import PatchPool, image_id


def build_patch_pool(
    source: Source,
    spec: InputSpec,
    *,
    block_size: int,
    num_patches: int,
    seed: int,
    max_images: int = 256,
    fewest: int = 2,
) -> PatchPool:
    """Cut patches at random positions out of random images, equally many of each (give or take 1).

    Images that cannot be read or are smaller than the block are skipped; the others give a few more
    patches each.

    Args:
      source: where the images [*S, C] come from.
      spec: what the model takes; patches are cut out of prepared images, beside the padding.
      block_size: side b of a patch in pixels, >= 1.
      num_patches: N, >= 2.
      seed: >= 0; which images and which positions.
      max_images: at most so many images are used, >= 2.
      fewest: images that must be usable: 2 where those that draw are among them, else 1.

    Returns:
      The pool, patches float32 [N, *(b,), C] on the host.

    Raises:
      ConfigError: a number out of its range.
      DataError: fewer usable images than that, or images that the model does not take.
    """
    if block_size < 1 or num_patches < 2 or seed < 0 or max_images < 2:
        raise ConfigError(
            f"block_size={block_size}, num_patches={num_patches}, seed={seed},"
            f" max_images={max_images}: at least 1, 2, 0 and 2"
        )
    count = min(len(source), max_images, num_patches)
    order = np.random.default_rng(seed).permutation(len(source))
    # Slices of one volume lie side by side: in this order each volume is read once.
    order = np.concatenate([np.sort(order[:count]), order[count:]])
    share = -(-num_patches // max(count, 1))
    # (rank of the patch within its image, source, patch): sorted by rank, the first N are even.
    cuts: list[tuple[int, tuple[int, ...], np.ndarray]] = []
    usable: list[int] = []
    refused = ""
    for index in map(int, order):
        if len(usable) == count:
            break
        try:
            cuts += _cut(source, index, spec, block_size, seed, range(share))
        except DataError as error:
            refused = f" (one that cannot: {error})"
        else:
            usable.append(index)
    if len({number for _, number, _ in cuts}) < fewest:
        needed = "at least two are needed, as an image never gets its own"
        raise DataError(
            f"patch pool smaller than needed: {len(usable)} of {len(source)} images can give"
            f" patches; {needed if fewest > 1 else 'one is needed'}{refused}"
        )
    missing = num_patches - len(cuts)
    if missing > 0:
        extra = range(share, share - (-missing // len(usable)))
        for index in usable:
            cuts += _cut(source, index, spec, block_size, seed, extra)
    cuts.sort(key=lambda cut: cut[0])
    cuts = sorted(cuts[:num_patches], key=lambda cut: cut[1])
    return PatchPool(
        patches=np.stack([patch for _, _, patch in cuts]).astype(np.float32),
        sources=np.array([number for _, number, _ in cuts], np.uint32),
    )


def read_patch_pool(folder: Path, spec: InputSpec, *, block_size: int) -> PatchPool:
    """All patches of a folder such as PdCR's `intervention_patches`, as a model takes them.

    Args:
      folder: PNG files IMAGE_ROW_COLUMN.png; an image never draws its own.
      spec: what the model takes.
      block_size: side of the blocks that are replaced, in pixels.

    Raises:
      DataError: no patches, of another size or with other channels, or a model that normalises each
        image by numbers of its own, which a patch does not have.
    """
    found = read_patches(folder)
    side = found.pixels.shape[1]
    if side != block_size:
        raise DataError(
            f"{folder}: patches of side {side} for blocks of {block_size}; set block_size = {side}"
        )
    if any(kind != "none" for kind in spec.normalize):
        raise DataError(
            f"{folder}: the model normalises each image by its own mean or range, which patches do "
            "not have; leave the folder out, and patches are cut from images"
        )
    plain = {"fixed_size": None, "multiple_of": 1, "crop": "none", "spacing": ()}
    spec = dataclasses.replace(spec, **plain)
    pixels = found.pixels.astype(np.float32) / np.float32(255)
    patches = [
        prepare(Sample(id=f"{folder}/{name}.png", image=patch), spec).image
        for name, patch in zip(found.names, pixels, strict=True)
    ]
    sources = np.array([image_id(name) for name in found.images], np.uint32)
    order = np.lexsort(sources.T[::-1])
    return PatchPool(patches=np.stack(patches)[order], sources=sources[order])


def _cut(
    source: Source, index: int, spec: InputSpec, block_size: int, seed: int, ranks: range
) -> list[tuple[int, tuple[int, ...], np.ndarray]]:
    """Patches number `ranks` of an item, as (rank, its `image_id`, float32 [*(b,), C])."""
    name = source.ids[index]
    prepared = prepare(read_item(source, index), spec)
    size = prepared.grid.resized
    if min(size) < block_size:
        raise DataError(
            f"{name} is {'x'.join(map(str, size))}, smaller than the block ({block_size});"
            " choose a smaller block_size"
        )
    number = tuple(map(int, image_id(name)))
    cuts = []
    for rank in ranks:
        rng = np.random.default_rng([seed, *number, rank])
        corner = [rng.integers(n - block_size + 1) for n in size]
        place = tuple(slice(start, start + block_size) for start in corner)
        cuts.append((rank, number, prepared.image[place].copy()))
    return cuts
