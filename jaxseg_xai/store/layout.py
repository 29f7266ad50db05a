"""The layout of a store on disk, in Zarr v3, readable by xarray: making it, recognising it.

    store.zarr/                      attributes: config, rank, explainers (the labels), and what the
      |                              sweep adds (seed, versions, class_names, ...)
      images/                        dimensions image, y, x, channel
      |   image       uint8 [image, y, x, 3]   for display; of volumes 1 or 3 channels
      |   labels      int16 [image, y, x]      ground truth, -1 = none
      |   prediction  int16 [image, y, x]      the model's label map, -1 = none
      |   labels_planes, prediction_planes     uint8 [image, y, x, class] instead, where classes may
      |                                        overlap; 2 = not known, 255 = none
      |   affine      float64 [image, position, axis]   from voxel indices to mm; NaN = not known
      |   id, stamp, content   string [image]: its name, and what tells whether it changed since
      |   height, width        int32 [image], 0 = not written
      patch_pool_<side>/             patches and sources: what methods draw from, see `store.pools`
      journal/                       batches that are in no shard yet, see `store.journal`; of many
                                     processes each has its own folders, see `store.part`
      ate16/, misure/, ...           one group an entry, called by its label; attributes: method,
          |                          parameters (its settings), meta, describe, runs
          attribution           float32 [explanation, y, x], none of methods that explain no pixels
          map_<name>            each entry of `Explanation.maps` (bool as uint8); planes of classes
                                [explanation, y, x, class]
          region, reference     uint8 [explanation, y, x], the target
          trace_<name>          float32 [explanation, t_<name>], NaN-padded
          score_<name>          float32 [explanation], NaN = not defined
          status                int8 [explanation], a `Status`; -1 = pending
          reason                string [explanation], why a row has none
          seconds               float32 [explanation], its share of the time of its batch
          run_index             int16 [explanation], which of `runs` computed the row: name, version
                                of the package, settings of the method
          same_prediction       int8 [explanation], 1: map "prediction" is that of the image
          height, width         int32 [explanation], size of the maps; 0 = no maps
          image_index, class_index int32, region_name, id string [explanation], the plan

Of volumes every y, x is z, y, x, and a column `depth` joins height and width.

Images of different sizes share an array of the largest size; the rest of a smaller row is padding
(NaN or 0), which `read` crops. What is written goes to a journal with `flush`; when all rows of a
shard are there (`store.shards`), it is written: its arrays first, then its columns, `status` last,
and then its journals are deleted. So a killed sweep leaves rows pending or whole, never half
written; what does not stand in a shard yet, other readers than this one do not see.

    xr.open_datatree("store.zarr", engine="zarr")
    xr.open_zarr("store.zarr", group="misure").score_dice_minimal.mean()
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import zarr

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.parse import json_value
from jaxseg_xai.core.types import Status
from jaxseg_xai.store.base import PENDING
from jaxseg_xai.store.place import Place, damaged, io_errors
from jaxseg_xai.store.records import Entry, Plan, PlanRow, image_ids
from jaxseg_xai.store.tables import (
    Table,
    consolidate,
    open_group,
    read_metadata,
    write_metadata,
)

#: Rank of the images -> the axes of a map, and the columns that hold its size along them.
AXES = {2: ("y", "x"), 3: ("z", "y", "x")}
SIZES = {2: ("height", "width"), 3: ("depth", "height", "width")}
#: The group of the images.
IMAGES = "images"
#: Columns that a table has from its creation, beside the sizes.
_OF_IMAGES = {"id"}
_OF_ROWS = {"image_index", "class_index", "region_name", "id", "reason", "status"}
_MARK = "jaxseg_xai_store"
#: Of this version; that before it had a file for each map, and is read.
_FORMAT, _READ = 2, 1
#: Stands in a folder as long as a store is made there, or made anew.
_UNFINISHED = "unfinished"


def plain(value: Any) -> Any:
    """A value as JSON keeps it, so that what is written and what is read compare equal."""
    return json.loads(json.dumps(value, default=json_value))


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether something stands at `path` that may be a whole store."""
    place = Place(path)
    with io_errors(place):
        return place.read(_UNFINISHED) is None and place.read("zarr.json") is not None


def read_attrs(path: str | os.PathLike[str] | Place) -> dict[str, Any]:
    """Root attributes of the store at `path`; JaxsegError where that is something else."""
    place = path if isinstance(path, Place) else Place(path)
    text = place.read("zarr.json")
    try:
        attrs = json.loads(text or "")["attributes"]
        version = int(attrs[_MARK])
    except (KeyError, TypeError, ValueError, OverflowError):
        there = text is not None or place.names() or (place.path and place.path.exists())
        what = "is not an explanation store" if there else "does not exist"
        raise JaxsegError(
            f"{place} {what}; name a folder made by a sweep, or a new one for a sweep"
        ) from None
    if version > _FORMAT:
        raise JaxsegError(
            f"{place} is a store of a newer version of jaxseg_xai (format {version}, this "
            f"one reads {_FORMAT}); install that version"
        )
    return attrs


def is_old(attrs: Mapping[str, Any]) -> bool:
    """Whether a store can be read, but not continued."""
    return attrs[_MARK] == _READ


def check_continues(place: Place, attrs: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a store that can only be read."""
    if is_old(attrs):
        raise ConfigError(
            f"{place} was written by an earlier version, which had a file for each map; convert it "
            f"with jaxseg-xai store merge {place} --out NEW and continue NEW, or --overwrite it"
        )


def set_attribute(place: Place, name: str, value: Any) -> dict[str, Any]:
    """Set a root attribute of a store; all of them."""
    root = read_metadata(place, "")
    root["attributes"][name] = plain(value)
    write_metadata(place, "", root)
    return root["attributes"]


def open_table(place: Place, name: str, mode: str, attrs: Mapping[str, Any]) -> Table:
    """The table in group `name` of a store; JaxsegError where its plan is not whole."""
    row_dim, needed = ("image", _OF_IMAGES) if name == IMAGES else ("explanation", _OF_ROWS)
    needed = needed | {*SIZES[attrs.get("rank", 2)]}
    try:
        # That of an old store may be stale after a crash; the arrays' own are not.
        group = open_group(place, name, mode, consolidated=not is_old(attrs))
        height = group["height"]
        assert isinstance(height, zarr.Array)
        table = Table(place, group, row_dim, height.shape[0])
    except (FileNotFoundError, LookupError, ValueError, TypeError, AttributeError, AssertionError):
        # JSON that is cut off, or says something else.
        raise damaged(place, f"{name} lacks {', '.join(sorted(needed))}") from None
    if missing := needed - table.column_names:
        raise damaged(place, f"{name} lacks {', '.join(sorted(missing))}")
    return table


def prepare(place: Place, *, overwrite: bool) -> bool:
    """Whether there is a store to continue; what a killed process left of a new one is removed.

    Raises:
      JaxsegError: what is there is not ours to continue, let alone to delete.
    """
    if place.read(_UNFINISHED) is None:
        # A process may have been killed in its very first write.
        begun = all(re.fullmatch(rf"{_UNFINISHED}\..*partial", name) for name in place.names())
        if begun:
            place.clear()
            return False
        attrs = read_attrs(place)
        if not overwrite:
            check_continues(place, attrs)
            place.clear()
            return True
    # The mark first, then the root: half a store is neither continued nor read.
    place.write(_UNFINISHED, b"1")
    place.delete("zarr.json")
    for name in place.names():
        if name != _UNFINISHED:
            place.delete_all(name)
            place.delete(name)
    return False


def create(
    place: Place,
    entries: Sequence[Entry],
    plan: Plan,
    config: Mapping[str, Any],
    attrs: Mapping[str, Any],
    rank: int,
) -> dict[str, Table]:
    """Write an empty store with its plan; its attributes come last, without which it is none.

    Returns:
      Its tables.
    """
    place.write(_UNFINISHED, b"1")
    ids = np.array(image_ids(plan), object)
    images = _new_table(place, IMAGES, "image", len(ids), {})
    images.add_columns({"id": (ids, ""), **_sizes(images, rank)})
    tables = {entry.label: create_table(place, entry, plan[entry.label], rank) for entry in entries}
    consolidate(place, IMAGES, *plan)
    ours = {_MARK: _FORMAT, "config": plain(config), "explainers": list(plan), "rank": rank}
    open_group(place, "", "r+", consolidated=False).update_attributes(plain(attrs) | ours)
    consolidate(place, "")
    place.delete(_UNFINISHED)
    return {IMAGES: images, **tables}


def create_table(place: Place, entry: Entry, rows: Sequence[PlanRow], rank: int) -> Table:
    """Write the empty table of an entry."""
    # `parameters` is what the settings were called when labels were methods.
    attributes = {
        "method": entry.method,
        "parameters": plain(entry.settings),
        "meta": plain(entry.meta),
        "describe": plain(entry.describe),
        "runs": [],
    }
    table = _new_table(place, entry.label, "explanation", len(rows), attributes)
    # CF's way to name the values of a flag, which xarray shows.
    names = ["pending", *(status.name.lower() for status in Status)]
    values = [PENDING, *(int(status) for status in Status)]
    flags = {"flag_values": values, "flag_meanings": " ".join(names)}
    columns = _plan_columns(rows) | _sizes(table, rank)
    table.add_columns(columns, {"status": flags})
    return table


def entry_of(label: str, table: Table) -> Entry:
    """The entry of a group, as stored; in stores older than entries the label is the method."""
    return Entry(
        label=label,
        method=table.attrs.get("method", label),
        settings=table.attrs.get("parameters", {}),
        meta=table.attrs.get("meta", {}),
        describe=table.attrs.get("describe", {}),
    )


def plan_rows(images: Table, table: Table) -> list[PlanRow]:
    """The plan of an entry, as stored."""
    ids = images.column("id")
    columns = [table.column(name).tolist() for name in ("image_index", "class_index")]
    return [
        PlanRow(image_index=i, image_id=str(ids[i]), class_index=c, region_name=region)
        for i, c, region in zip(*columns, table.column("region_name"), strict=True)
    ]


def _new_table(
    place: Place, name: str, row_dim: str, num_rows: int, attributes: dict[str, Any]
) -> Table:
    group = zarr.create_group(place.zarr, path=name, zarr_format=3, attributes=attributes)
    return Table(place, group, row_dim, num_rows)


def _sizes(table: Table, rank: int) -> dict[str, tuple[np.ndarray, Any]]:
    return {name: (np.zeros(table.num_rows, np.int32), 0) for name in SIZES[rank]}


def _plan_columns(rows: Sequence[PlanRow]) -> dict[str, tuple[np.ndarray, Any]]:
    """Name -> (values, empty value) of what is known of rows, and of what will be."""

    def planned(name: str, dtype: Any) -> np.ndarray:
        return np.array([getattr(row, name) for row in rows], dtype)

    count = len(rows)
    return {
        "image_index": (planned("image_index", np.int32), -1),
        "class_index": (planned("class_index", np.int32), -1),
        "region_name": (planned("region_name", object), ""),
        "id": (planned("id", object), ""),
        "reason": (np.full(count, "", object), ""),
        "run_index": (np.full(count, -1, np.int16), -1),
        "same_prediction": (np.zeros(count, np.int8), 0),
        "seconds": (np.zeros(count, np.float32), 0),
        "status": (np.full(count, PENDING, np.int8), PENDING),
    }
