"""A pool of patches, cut out of the images of a data set."""

import contextlib
import dataclasses
from collections.abc import Collection
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
    patches each. Images are of `fewest` groups, even where that takes some that come later.

    Args:
      source: where the images [*S, C] come from.
      spec: what the model takes; patches are cut out of prepared images, beside the padding.
      block_size: side b of a patch in pixels, >= 1.
      num_patches: N, >= 2.
      seed: >= 0; which images and which positions.
      max_images: at most so many images are used, >= 2.
      fewest: groups of images that must be usable: 2 where those that draw are among them, else
        1. (An image that belongs to nothing is a group by itself.)

    Returns:
      The pool, patches float32 [N, *(b,), C] on the host.

    Raises:
      ConfigError: a number out of its range.
      DataError: fewer usable groups than that, or images that the model does not take.
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
    # Item -> its group, and its patches.
    usable: dict[int, tuple[str, list[np.ndarray]]] = {}
    refused = ""
    for index in map(int, order):
        groups = {group for group, _ in usable.values()}
        if len(usable) == count and len(groups) >= fewest:
            break
        try:
            found = _cut(source, index, spec, block_size, seed, range(share))
        except DataError as error:
            refused = f" (one that cannot: {error})"
            continue
        if len(usable) < count:
            usable[index] = found
        elif found[0] not in groups:
            usable.popitem()
            usable[index] = found
    _check_groups([group for group, _ in usable.values()], len(source), fewest, refused)
    missing = num_patches - share * len(usable)
    if missing > 0:
        extra = range(share, share - (-missing // len(usable)))
        for index, (_, patches) in usable.items():
            patches += _cut(source, index, spec, block_size, seed, extra)[1]
    # The first patches of every image, then the second ones, ...: any number of them is even.
    number = {group: tuple(map(int, image_id(group))) for group, _ in usable.values()}
    rounds = zip(*[[(number[g], patch) for patch in p] for g, p in usable.values()], strict=True)
    cuts = [cut for one_each in rounds for cut in one_each][:num_patches]
    cuts.sort(key=lambda cut: cut[0])
    return PatchPool(
        patches=np.stack([patch for _, patch in cuts]).astype(np.float32),
        sources=np.array([group for group, _ in cuts], np.uint32),
    )


def _check_groups(groups: Collection[str], total: int, fewest: int, refused: str) -> None:
    """Raise `DataError` for too few groups of the images that can give patches."""
    if len(set(groups)) >= fewest:
        return
    if len(groups) >= fewest:
        raise DataError(
            f"patch pool smaller than needed: all {len(groups)} images that can give patches belong"
            f" to {next(iter(groups))}, and slices of one volume or images of one patient are no"
            f" other images to each other; add another one, or say with data.group what belongs "
            f"together{refused}"
        )
    needed = "at least two are needed, as an image never gets its own"
    raise DataError(
        f"patch pool smaller than needed: {len(groups)} of {total} images can give"
        f" patches; {needed if fewest > 1 else 'one is needed'}{refused}"
    )


def read_patch_pool(
    folder: Path, spec: InputSpec, *, block_size: int, source: Source | None = None
) -> PatchPool:
    """All patches of a folder such as PdCR's `intervention_patches`, as a model takes them.

    Args:
      folder: PNG files IMAGE_ROW_COLUMN.png; an image never draws its own.
      spec: what the model takes.
      block_size: side of the blocks that are replaced, in pixels.
      source: the images that draw; it says which of those in the folder belong together.

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
    groups = {} if source is None else _groups_of(source, set(found.images))
    sources = np.array([image_id(groups.get(name, name)) for name in found.images], np.uint32)
    order = np.lexsort(sources.T[::-1])
    return PatchPool(patches=np.stack(patches)[order], sources=sources[order])


def _groups_of(source: Source, names: Collection[str]) -> dict[str, str]:
    """Name -> group, of the items among `names` that can be read."""
    found = {}
    for index, name in enumerate(source.ids):
        if name in names:
            with contextlib.suppress(DataError):  # what cannot be read draws nothing
                found[name] = read_item(source, index).belongs_to
    return found


def _cut(
    source: Source, index: int, spec: InputSpec, block_size: int, seed: int, ranks: range
) -> tuple[str, list[np.ndarray]]:
    """The group of an item and its patches number `ranks`, float32 [*(b,), C] each."""
    name = source.ids[index]
    sample = read_item(source, index)
    prepared = prepare(sample, spec)
    size = prepared.grid.resized
    if min(size) < block_size:
        raise DataError(
            f"{name} is {'x'.join(map(str, size))}, smaller than the block ({block_size});"
            " choose a smaller block_size"
        )
    number = tuple(map(int, image_id(name)))
    patches = []
    for rank in ranks:
        rng = np.random.default_rng([seed, *number, rank])
        corner = [rng.integers(n - block_size + 1) for n in size]
        place = tuple(slice(start, start + block_size) for start in corner)
        patches.append(prepared.image[place].copy())
    return sample.belongs_to, patches
