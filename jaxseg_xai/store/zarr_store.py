"""The store on disk: what a sweep computed, in Zarr v3, readable by xarray.

    store.zarr/                      attributes: config, rank, explainers (the labels), and what the
      |                              sweep adds (seed, versions, class_names, ...)
      images/                        dimensions image, y, x, channel
      |   image       uint8 [image, y, x, 3]   for display; of volumes 1 or 3 channels
      |   labels      int16 [image, y, x]      ground truth, -1 = none
      |   prediction  int16 [image, y, x]      the model's label map, -1 = none
      |   labels_planes, prediction_planes     uint8 [image, y, x, class] instead, where classes may
      |                                        overlap; 2 = not known, 255 = none
      |   affine      float64 [image, position, axis]   from voxel indices to mm; NaN = not known
      |   id          string [image];  height, width int32 [image], 0 = not written
      patch_pool_<side>/             patches and sources: what methods draw from, see `store.pools`
      ate16/, misure/, ...           one group an entry, called by its label; attributes: method,
          |                          parameters (its settings), meta, describe
          attribution           float32 [explanation, y, x], none of methods that explain no pixels
          map_<name>            each entry of `Explanation.maps` (bool as uint8); planes of classes
                                [explanation, y, x, class]
          region, reference     uint8 [explanation, y, x], the target
          trace_<name>          float32 [explanation, t_<name>], NaN-padded
          score_<name>          float32 [explanation], NaN = not defined
          status                int8 [explanation], a `Status`; -1 = pending
          reason                string [explanation], why a row has none
          run, version, settings string [explanation], what computed the row (settings as JSON)
          height, width         int32 [explanation], size of the maps; 0 = no maps
          image_index, class_index int32, region_name, id string [explanation], the plan

Of volumes every y, x is z, y, x, and a column `depth` joins height and width.

Every row of a map is one chunk. Images of different sizes share an array of the largest size; the
rest of a smaller row is padding (NaN or 0), which `read` crops. A row's `status` reaches the disk
after everything else of that row, so a killed sweep leaves rows pending, never half written.

    xr.open_datatree("store.zarr", engine="zarr")
    xr.open_zarr("store.zarr", group="misure").score_dice_minimal.mean()
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from jaxseg_xai.core.types import IGNORED, Explanation, SegmentTarget, Status
from jaxseg_xai.store import layout
from jaxseg_xai.store.base import PENDING, Store, check_picture
from jaxseg_xai.store.records import Entry, Plan, Row, StoredExplanation, StoredImage, as_stored
from jaxseg_xai.store.rows import rows_of
from jaxseg_xai.store.tables import Table, consolidate, io_errors

#: Where no planes were written.
_NO_PLANES = 255
#: In planes: a pixel whose classes nobody knows.
_UNKNOWN = 2


class ZarrStore(Store):
    """An open store; make one with `create_or_resume` (to write) or `open` (to read)."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path, self.name = path, path.name
        self.attrs = layout.read_attrs(path)
        self.rank = self.attrs.get("rank", 2)
        self._axes, self._sizes = layout.AXES[self.rank], layout.SIZES[self.rank]
        self._images = layout.open_table(path, "images", "image", mode, self.rank)
        self._tables = {
            label: layout.open_table(path, label, "explanation", mode, self.rank)
            for label in self.attrs["explainers"]
        }
        #: Settings of this run as JSON; those of an earlier one may differ in what does not matter.
        self._settings: dict[str, str] = {}

    @classmethod
    def create_or_resume(
        cls,
        path: str | os.PathLike[str],
        *,
        entries: Sequence[Entry],
        plan: Plan,
        config: Mapping[str, Any],
        attrs: Mapping[str, Any] | None = None,
        rank: int = 2,
        run: str = "",
        version: str = "",
        overwrite: bool = False,
    ) -> Self:
        """See `Store.create_or_resume`; `path` is a folder."""
        path = Path(path)
        with io_errors(path):
            exists = path.exists() and not (path.is_dir() and not any(path.iterdir()))
            if exists:
                layout.read_attrs(path)  # or it is not ours to continue, let alone to delete
            if exists and not overwrite:
                store = cls(path, "r+")
                old = store.attrs["config"]
                layout.check_same(path, store._images, store._tables, old, entries, plan, config)
                layout.clear_unfinished(path, ["images", *store.labels])
                store._consolidate()  # a killed process may have left it stale
            else:
                if exists:
                    # Renamed first: half a store is neither continued nor overwritten.
                    deleted = path.with_name(path.name + ".deleted")
                    shutil.rmtree(deleted, ignore_errors=True)  # of a run killed here
                    shutil.rmtree(path.rename(deleted))
                layout.create(path, entries, plan, config, attrs or {}, rank)
                store = cls(path, "r+")
        store.run, store.version = run, version
        store._settings = {e.label: json.dumps(layout.plain(e.settings)) for e in entries}
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an existing store to read; JaxsegError where there is none."""
        path = Path(path)
        with io_errors(path):
            return cls(path, "r")

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Store.labels`."""
        return tuple(self._tables)

    def entry(self, label: str) -> Entry:
        """See `Store.entry`."""
        return layout.entry_of(label, self._table(label))

    def set_description(self, label: str, describe: Mapping[str, Any]) -> None:
        """See `Store.set_description`."""
        describe = layout.plain(describe)
        if describe != self.entry(label).describe:
            with io_errors(self.path):
                self._table(label).set_attribute("describe", describe)

    def set_attribute(self, name: str, value: Any) -> None:
        """See `Store.set_attribute`."""
        with io_errors(self.path):
            self.attrs = layout.set_attribute(self.path, name, value)
            self._consolidate()

    def statuses(self, label: str) -> np.ndarray:
        """See `Store.statuses`."""
        return self._table(label).columns["status"].copy()

    def write_image(self, index: int, image: StoredImage) -> None:
        """See `Store.write_image`."""
        check_picture(image, self.rank)
        picture, table = image.image, self._images
        if self.rank == 2:  # in colour, as other readers expect
            picture = np.broadcast_to(picture, (*picture.shape[:-1], 3))
        with io_errors(self.path):
            table.write_row("image", index, picture, (*self._axes, "channel"))
            for name in ("labels", "prediction"):
                value = getattr(image, name)
                if value is None:
                    continue
                if value.ndim > self.rank:
                    planes = np.where(value == IGNORED, _UNKNOWN, value).astype(np.uint8)
                    dims = (*self._axes, "class")
                    table.write_row(f"{name}_planes", index, planes, dims, _NO_PLANES)
                else:
                    table.write_row(name, index, np.asarray(value, np.int16), self._axes, -1)
            if image.affine is not None:
                affine = np.asarray(image.affine, np.float64)
                table.write_row("affine", index, affine, ("position", "axis"))
            self._set_size(table, index, picture.shape[:-1])

    def write(self, label: str, row: int, explanation: Explanation, target: SegmentTarget) -> None:
        """See `Store.write`; the arrays go to disk at once."""
        table = self._table(label)
        maps = {f"map_{name}": value for name, value in explanation.maps.items()}
        maps |= {"region": target.region, "reference": target.reference}
        if explanation.attribution is not None:
            maps["attribution"] = explanation.attribution
        with io_errors(self.path):
            for name, value in maps.items():
                value = as_stored(value)
                value = value.astype(np.uint8) if value.dtype == bool else value
                dims = (*self._axes, "class") if value.ndim > self.rank else self._axes
                table.write_row(name, row, value, dims)
            for name, value in explanation.traces.items():
                trace = np.asarray(value, np.float32)
                table.write_row(f"trace_{name}", row, trace, (f"t_{name}",))
            for name, value in explanation.scores.items():
                table.set_value(f"score_{name}", row, np.float32(np.asarray(value)))
            self._set_size(table, row, np.shape(target.region))
            self._finish(label, row, int(explanation.status), "")

    def fail(self, label: str, row: int, reason: str, status: Status = Status.FAILED) -> None:
        """See `Store.fail`."""
        with io_errors(self.path):
            self._finish(label, row, int(status), " ".join(reason.split()))

    def flush(self) -> None:
        """Bring images, scores and, last, the statuses to disk."""
        with io_errors(self.path):
            self._images.flush()
            for table in self._tables.values():
                table.flush(last="status")
            if any(table.reshaped for table in (self._images, *self._tables.values())):
                self._consolidate()

    def rows(self, label: str | None = None, *, done_only: bool = False) -> list[Row]:
        """See `Store.rows`; the columns are in memory since the store was opened."""
        found = []
        for name in self.labels if label is None else (label,):
            statuses = self._table(name).columns["status"]
            chosen = statuses != PENDING if done_only else np.ones(len(statuses), bool)
            found += self._rows(name, np.flatnonzero(chosen))
        return found

    def read(self, row: Row) -> StoredExplanation:
        """See `Store.read`."""
        table = self._table(row.label)
        (row,) = self._rows(row.label, np.array([row.number]))
        maps, traces = {}, {}
        if row.status is not None and table.columns["height"][row.number] > 0:
            with io_errors(self.path):
                maps = self._read_maps(table, row.number)
                names = [name for name in table.arrays if name.startswith("trace_")]
                traces = {n[6:]: np.asarray(table.arrays[n][row.number]) for n in names}
            # Only what was boolean is stored as uint8.
            maps = {n: v.astype(bool) if v.dtype == np.uint8 else v for n, v in maps.items()}
        return StoredExplanation(
            row=row,
            attribution=maps.pop("attribution", None),
            region=maps.pop("region", None),
            reference=maps.pop("reference", None),
            maps={name.removeprefix("map_"): value for name, value in maps.items()},
            traces=traces,
        )

    def read_image(self, image: Row | int) -> StoredImage | None:
        """See `Store.read_image`."""
        index = image.image_index if isinstance(image, Row) else image
        if not self._images.columns["height"][index]:
            return None
        with io_errors(self.path):
            maps = self._read_maps(self._images, index)
        picture = maps["image"]
        return StoredImage(
            id=str(self._images.columns["id"][index]),
            image=np.broadcast_to(picture, (*picture.shape[:-1], 3)),
            labels=_segmentation(maps, "labels"),
            prediction=_segmentation(maps, "prediction"),
            affine=self._affine(index),
        )

    def _affine(self, index: int) -> np.ndarray | None:
        array = self._images.arrays.get("affine")
        if array is None:
            return None
        with io_errors(self.path):
            found = np.asarray(array[index])
        return None if np.isnan(found).any() else found

    def _table(self, label: str) -> Table:
        if label not in self._tables:
            self._check_label(label)
        return self._tables[label]

    def _rows(self, label: str, numbers: np.ndarray) -> list[Row]:
        ids = self._images.columns["id"]
        return rows_of(self.entry(label), self._tables[label], ids, numbers)

    def _finish(self, label: str, row: int, status: int, reason: str) -> None:
        table = self._table(label)
        known = {"run": self.run, "version": self.version, "settings": self._settings[label]}
        for name, value in known.items():
            table.set_value(name, row, value)
        table.set_value("reason", row, reason)
        table.set_value("status", row, status)

    def _set_size(self, table: Table, row: int, size: tuple[int, ...]) -> None:
        for name, value in zip(self._sizes, size, strict=True):
            table.set_value(name, row, value)

    def _read_maps(self, table: Table, row: int) -> dict[str, np.ndarray]:
        size = tuple(slice(int(table.columns[name][row])) for name in self._sizes)
        return {
            name: np.asarray(array[(row, *size)])
            for name, array in table.arrays.items()
            if table.dims(name)[1 : 1 + self.rank] == self._axes
        }

    def _consolidate(self) -> None:
        for table in (self._images, *self._tables.values()):
            table.grow()
            table.reshaped = False
        consolidate(self.path, ["images", *self._tables])


def _segmentation(maps: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """A label map or planes of an image, None where neither was written."""
    planes, labels = maps.get(f"{name}_planes"), maps.get(name)
    if planes is not None and (planes != _NO_PLANES).any():
        unknown = planes == _UNKNOWN
        return np.where(unknown, IGNORED, planes).astype(np.int8) if unknown.any() else planes == 1
    return labels if labels is not None and (labels >= 0).any() else None
