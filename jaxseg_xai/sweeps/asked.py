"""What the rows of a sweep ask of an image that was read and segmented."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.inputs import Grid
from jaxseg_xai.core.types import Sample, SegmentTarget, Status
from jaxseg_xai.data.others import read_others
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.ops.patches import PatchPool
from jaxseg_xai.sweeps.config import Job
from jaxseg_xai.sweeps.items import Item
from jaxseg_xai.sweeps.targets import Reference, make_target
from jaxseg_xai.sweeps.tiles import Tile
from jaxseg_xai.sweeps.work import Work

#: Sides of boxes around regions of volumes; each makes a program of its own.
_BOX_SIDES = tuple(side << k for k in range(8) for side in (8, 12))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A row that is ready to compute.

    Attributes:
      row: its number.
      item: the image, or the tile of it that is looked at.
      target: what is explained, leaves on the item's grid.
    """

    row: int
    item: Item
    target: SegmentTarget


def reference_in(
    work: Work, job: Job, explainer: Explainer, pools: Mapping[int, PatchPool], sample: Sample
) -> Reference:
    """Which pixels of a class a job explains in an image.

    Raises:
      DataError: the image's labels cannot be used, or there are no patches of other images for it:
        what it belongs to is known only once it is read.
    """
    reference = work.reference_of(job)
    if reference != "prediction" and sample.labels_error is not None:
        raise sample.labels_error
    if "patches" in explainer.needs:
        try:
            pools[explainer.patch_side].check([sample.belongs_to])
        except DataError as error:
            raise DataError(f"{sample.id}: {error}") from None
    nothing_known = reference == "truth" and sample.labels is None and job.target is None
    return "prediction" if nothing_known else reference


def ask(
    work: Work,
    job: Job,
    item: Item,
    prediction: np.ndarray,
    *,
    row: int,
    class_index: int,
    reference: Reference,
    block_side: int,
) -> Asked | Status:
    """What a row explains in a whole image, or the status that says why there is nothing.

    Args:
      work: the sweep.
      job: whose row it is.
      item: the image.
      prediction: of the model, on the prepared grid.
      row: its number.
      class_index: what it explains.
      reference: which pixels of that, from `reference_in`.
      block_side: of the blocks into which the method divides an image.

    Raises:
      ConfigError: the region does not lie in the image, or no tile is large enough for it.
    """
    assert isinstance(item.grid, Grid)  # no tile yet
    try:
        target = make_target(
            class_index,
            prediction,
            item.sample.labels,
            item.grid,
            region=work.region_in(job, item.sample.id),
            reference=reference,
        )
        if isinstance(target, Status):
            return target
        asked = Asked(row=row, item=item, target=target)
        too_large = work.is_too_large(item.grid.prepared)
        return on_tile(work, asked, item.grid, block_side) if too_large or work.tile else asked
    except ConfigError as error:
        raise ConfigError(f"{item.sample.id}: {error}") from None


def others_for(work: Work, explainer: Explainer, asked: Asked) -> np.ndarray:
    """Other images for a row, float32 [N, *S, C] on its grid.

    Raises:
      JaxsegError: there are not enough.
    """
    source, spec = work.others or work.source, work.bundle.segmenter.input
    sample, grid = asked.item.sample, asked.item.grid
    tile = grid if isinstance(grid, Tile) else None
    size = grid.prepared if tile is None else tile.whole.prepared
    found = read_others(source, spec, sample, size, count=explainer.num_others, seed=work.seed)
    return found if tile is None else found[:, *tile.place]


def on_tile(work: Work, asked: Asked, grid: Grid, block_side: int) -> Asked:
    """The same on the part of the image that is looked at; whole where it need not be cut.

    Raises:
      ConfigError: it must be cut, and no tile is large enough for what is explained.
    """
    try:
        tile = work.tiling.around(asked.target, grid, block_side=block_side)
    except ConfigError:
        if work.is_too_large(grid.prepared):
            raise
        return asked  # it fits whole
    if tile.is_whole:
        return asked
    # Copies: the image itself need not stay in memory while the tile waits.
    image = asked.item.image[tile.place].copy()
    sample = dataclasses.replace(asked.item.sample, image=image, labels=None)
    target = jax.tree.map(
        lambda leaf: leaf[tile.place].copy() if np.ndim(leaf) else leaf, asked.target
    )
    item = Item(position=asked.item.position, sample=sample, image=image, grid=tile)
    return Asked(row=asked.row, item=item, target=target)


def box_side(region: np.ndarray) -> int | None:
    """Side of a cube that holds a region of a volume bool [D, H, W]: 8, 12, 16, 24, 32, ...

    None of the region of an image: compiling another program takes longer than it would save
    there, and where the cube would be as large as the volume.
    """
    if region.ndim != 3 or not region.any():
        return None
    longest = int(np.ptp(np.argwhere(region), axis=0).max()) + 1
    return next((side for side in _BOX_SIDES if longest <= side < max(region.shape)), None)
