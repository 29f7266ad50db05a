"""How a store on disk is read: its tables, and the journals over them; see `store.layout`."""

import collections
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.store import layout
from jaxseg_xai.store.base import PENDING, Store
from jaxseg_xai.store.encode import Arrays, explanation_of, image_of
from jaxseg_xai.store.journal import Journal, parts_of
from jaxseg_xai.store.layout import IMAGES
from jaxseg_xai.store.old import as_new
from jaxseg_xai.store.place import Place, damaged, io_errors
from jaxseg_xai.store.records import Entry, Row, StoredExplanation, StoredImage
from jaxseg_xai.store.rows import rows_of
from jaxseg_xai.store.tables import Table
from jaxseg_xai.store.verify import damage_of

#: Predictions that are remembered for the rows of their images.
_REMEMBERED = 256


class StoredTables(Store):
    """The part of `ZarrStore` that only reads."""

    def __init__(self, place: Place, mode: str) -> None:
        self.name, self._place, self._mode = place.name, place, mode
        self.attrs = layout.read_attrs(place)
        self.rank = self.attrs.get("rank", 2)
        self._axes, self._sizes = layout.AXES[self.rank], layout.SIZES[self.rank]
        self._predictions: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._reopen()

    def seconds(self, label: str) -> np.ndarray:
        """What the rows of an entry took, float32 [rows], 0 where it is not known."""
        return self._table(label).column("seconds").copy()

    @property
    def path(self) -> Any:
        """The folder; the URL where it is in an object store."""
        return self._place.path or str(self._place)

    @property
    def labels(self) -> tuple[str, ...]:
        """See `Store.labels`."""
        return tuple(self.attrs["explainers"])

    def entry(self, label: str) -> Entry:
        """See `Store.entry`."""
        return layout.entry_of(label, self._table(label))

    def statuses(self, label: str) -> np.ndarray:
        """See `Store.statuses`."""
        return self._table(label).column("status").copy()

    def rows(self, label: str | None = None, *, done_only: bool = False) -> list[Row]:
        """See `Store.rows`; the columns are in memory since they were first asked for."""
        found = []
        for name in self.labels if label is None else (label,):
            statuses = self._table(name).column("status")
            chosen = statuses != PENDING if done_only else np.ones(len(statuses), bool)
            found += self._rows(name, np.flatnonzero(chosen))
        return found

    def columns(self, label: str) -> dict[str, np.ndarray]:
        """Columns of an entry [rows], with the names of the image, the run and the version."""
        table = self._table(label)
        with io_errors(self._place):
            found = {name: table.column(name) for name in table.column_names - {"id"}}
            ids = self._table(IMAGES).column("id")
        runs = [*table.attrs["runs"], {"run": "", "version": ""}]  # -1, pending, is the last
        for name in ("run", "version"):
            found[name] = np.array([run[name] for run in runs], object)[found["run_index"]]
        return found | {"image": ids[found["image_index"]]}

    def read(self, row: Row) -> StoredExplanation:
        """See `Store.read`."""
        table, number = self._table(row.label), row.number
        (row,) = self._rows(row.label, np.array([number]))
        arrays = {}
        if row.status is not None and table.column("height")[number] > 0:
            arrays = self._arrays(row.label, number)
        same = table.column("same_prediction")[number]
        return explanation_of(row, arrays, self._prediction(row.image_index) if same else None)

    def read_image(self, image: Row | int) -> StoredImage | None:
        """See `Store.read_image`."""
        index = image.image_index if isinstance(image, Row) else image
        table = self._table(IMAGES)
        if not table.column("height")[index]:
            return None
        return image_of(str(table.column("id")[index]), self._arrays(IMAGES, index))

    def damage(self) -> list[str]:
        """A line for each damaged part; everything is read for it, while nobody writes."""
        found = []
        for group in (IMAGES, *self.labels):
            try:
                found += damage_of(group, self._table(group), self._journal)
            except JaxsegError as error:  # a column, or what says which there are
                found.append(str(error))
        with io_errors(self._place):
            return found + self._journal.damage()

    def _table(self, name: str) -> Table:
        """The table of a group, with what its journals hold; opened when it is asked for."""
        if name not in self._tables:
            if name != IMAGES:
                self._check_label(name)
            with io_errors(self._place):
                table = layout.open_table(self._place, name, self._mode, self.attrs)
                if layout.is_old(self.attrs) and name != IMAGES:
                    as_new(table)
                for row, values in self._journal.rows(name).items():
                    table.set(row, values)
            self._tables[name] = table
        return self._tables[name]

    def _rows(self, label: str, numbers: np.ndarray) -> list[Row]:
        with io_errors(self._place):
            ids, table = self._table(IMAGES).column("id"), self._table(label)
            if (ids[table.column("image_index")[numbers]] == "").any():
                raise damaged(self._place, f"{IMAGES} lacks id")
            return rows_of(self.entry(label), table, ids, numbers)

    def _arrays(self, group: str, row: int) -> Arrays:
        """All arrays of a row, of its own size."""
        table = self._table(group)
        with io_errors(self._place):
            if row in self._journal.rows(group):
                if (found := self._journal.arrays(group, row)) is not None:
                    return found
                self._reopen()  # it went into a shard since this store was opened
                table = self._table(group)
            size = tuple(slice(int(table.column(name)[row])) for name in self._sizes)
            found = {}
            for name, array in table.arrays.items():
                if array.ndim > 1:
                    on_grid = table.dims(name)[1 : 1 + self.rank] == self._axes
                    try:
                        found[name] = np.asarray(array[(row, *size) if on_grid else row])
                    except (ValueError, RuntimeError) as error:  # a checksum, a codec
                        raise damaged(
                            self._place, f"{group}/{name} of row {row} ({error})"
                        ) from error
        # Methods that explain no pixels have a region all the same.
        lost = found.get("image" if group == IMAGES else "attribution", found.get("region"))
        if lost is None or (lost.dtype.kind == "f" and np.isnan(lost).all()):
            raise damaged(self._place, f"{group} lacks the maps of row {row}")
        return found

    def _reopen(self) -> None:
        #: Before the tables: what left it meanwhile stands there.
        self._journal = self._open_journal()
        self._tables: dict[str, Table] = {}

    def _open_journal(self) -> Journal:
        journal = Journal(self._place)
        for part in self._parts():
            journal.open(part)
        return journal

    def _parts(self) -> list[str]:
        """Those of a sweep of many processes that are in no shard yet."""
        return parts_of(self._place)

    def _prediction(self, index: int) -> Any:
        """What the model segments in an image, None where it was not written."""
        try:
            return self._predictions[index]
        except KeyError:
            image = self.read_image(index)
            prediction = None if image is None else image.prediction
            self._remember(index, prediction)
            return prediction

    def _remember(self, index: int, prediction: Any) -> None:
        self._predictions[index] = prediction
        if len(self._predictions) > _REMEMBERED:
            self._predictions.popitem(last=False)
