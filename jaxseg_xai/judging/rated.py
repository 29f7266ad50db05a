"""Explanations of a store as metrics take them: on the model's grid, in batches."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxseg_xai.core.types import Explanation, SegmentTarget
from jaxseg_xai.data.others import read_others
from jaxseg_xai.devices.mesh import deal_batch
from jaxseg_xai.explainers import Batch, Explainer
from jaxseg_xai.judging.explained import Explained
from jaxseg_xai.ops.random import image_id
from jaxseg_xai.store import Row
from jaxseg_xai.sweeps.asked import Asked, on_tile
from jaxseg_xai.sweeps.items import Item
from jaxseg_xai.sweeps.tiles import Tile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rated:
    """An explanation on the model's grid.

    Attributes:
      row: of the store.
      asked: image and target.
      attribution: float32 [*S].
      known: bool [*S], the known cause; what is explained where nobody knows.
      others: float32 [N, *S, C], other images, where the method needs them to explain again.
    """

    row: Row
    asked: Asked
    attribution: np.ndarray
    known: np.ndarray
    others: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatedBatch:
    """A batch of explanations as metrics take it, leaves [B, ...].

    Attributes:
      batch: what was explained.
      explanations: without the further maps and scores of methods, which would make each method's
        program another one.
      known: the pixels that are known to matter.
      rows: place in the batch -> row of the store.
    """

    batch: Batch
    explanations: Explanation
    known: np.ndarray
    rows: dict[int, Row]


def rated_of(explained: Explained, row: Row, item: Item, explainer: Explainer | None) -> Rated:
    """A stored explanation on the grid on which the model sees the image.

    Args:
      explained: the store, its model and images.
      row: of the store.
      item: the image.
      explainer: the method, where a metric lets it explain again; else None.
    """
    work, store, grid = explained.work, explained.store, item.grid
    stored = store.read(row)
    assert not isinstance(grid, Tile)
    target = SegmentTarget(
        class_index=np.int32(row.class_index),
        region=grid.forward(np.asarray(stored.region, bool)),
        reference=grid.forward(np.asarray(stored.reference, bool)),
    )
    maps = {"attribution": grid.forward(np.asarray(stored.attribution, np.float32))}
    cause = item.sample.cause
    maps["known"] = target.segment if cause is None else grid.forward(np.asarray(cause, bool))
    asked = Asked(row=row.number, item=item, target=target)
    if work.tile or work.is_too_large(grid.prepared):
        side = int(store.entry(row.label).settings.get("block_size", 1))
        asked = on_tile(work, asked, grid, side)
    if isinstance(tile := asked.item.grid, Tile):
        maps = {name: values[tile.place].copy() for name, values in maps.items()}
    others = None
    if explainer is not None and "others" in explainer.needs:
        others = _others(explained, asked.item, explainer.num_others)
    return Rated(row=row, asked=asked, others=others, **maps)


def rated_batch(waiting: Sequence[Rated], size: int, mesh: Mesh, *, padded: bool) -> RatedBatch:
    """Explanations of one size, filled up to a batch on the devices of a mesh.

    Args:
      waiting: at most `size` of them.
      size: B.
      mesh: the devices.
      padded: whether the model's images may have padding.
    """
    asked = [one.asked for one in waiting]
    examples: dict[str, Any] = {
        "images": np.stack([one.item.image for one in asked]),
        "targets": jax.tree.map(lambda *x: np.stack(x), *[one.target for one in asked]),
        "image_ids": np.stack([image_id(one.item.sample.id) for one in asked]),
        "groups": np.stack([image_id(one.item.sample.belongs_to) for one in asked]),
    }
    others = [one.others for one in waiting]
    if all(one is not None for one in others):
        examples["others"] = np.stack(others)  # pyright: ignore[reportArgumentType, reportCallIssue]
    if padded:
        examples["sizes"] = np.array([one.item.grid.resized for one in asked], np.int32)
    explanations = {
        "attribution": np.stack([one.attribution for one in waiting]),
        "status": np.array([one.row.status for one in waiting], np.int32),
    }
    known = np.stack([one.known for one in waiting])
    (dealt, explanations, known), which = deal_batch((examples, explanations, known), size, mesh)
    places = zip(np.argsort(which, kind="stable"), waiting, strict=False)
    return RatedBatch(
        batch=Batch(**dealt, valid=which < len(waiting)),
        explanations=Explanation(**explanations),
        known=known,
        rows={int(place): one.row for place, one in places},
    )


def _others(explained: Explained, item: Item, count: int) -> np.ndarray:
    """Other images float32 [N, *S, C], as the method was given."""
    work, grid = explained.work, item.grid
    size = grid.whole.prepared if isinstance(grid, Tile) else grid.prepared
    found = read_others(
        explained.others or work.source,
        work.bundle.segmenter.input,
        item.sample,
        size,
        count=count,
        seed=work.seed,
    )
    return found[:, *grid.place] if isinstance(grid, Tile) else found
