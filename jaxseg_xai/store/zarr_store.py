"""The store on disk: what a sweep writes, row by row, and what others read; see `store.layout`."""

import collections
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store import layout
from jaxseg_xai.store.base import PENDING, Store, check_picture
from jaxseg_xai.store.changes import another, changes_of, make_anew
from jaxseg_xai.store.compaction import Compaction
from jaxseg_xai.store.encode import (
    Arrays,
    arrays_of_explanation,
    arrays_of_image,
    explanation_of,
    image_of,
    segmentation,
)
from jaxseg_xai.store.journal import Journal, parts_of
from jaxseg_xai.store.layout import IMAGES
from jaxseg_xai.store.old import as_new
from jaxseg_xai.store.place import Place, damaged, io_errors
from jaxseg_xai.store.precision import storage_of
from jaxseg_xai.store.records import (
    Entry,
    Plan,
    Row,
    StoredExplanation,
    StoredImage,
    check_plan,
)
from jaxseg_xai.store.rows import rows_of
from jaxseg_xai.store.tables import Table, consolidate
from jaxseg_xai.store.verify import damage_of

#: Columns of images beside their names and sizes.
_OF_IMAGE = ("stamp", "content")
#: Predictions that are remembered for the rows of their images.
_REMEMBERED = 256
_log = logging.getLogger(__name__)


class ZarrStore(Store):
    """An open store; make one with `create_or_resume` (to write) or `open` (to read)."""

    def __init__(self, place: Place, mode: str) -> None:
        self.name, self._place, self._mode = place.name, place, mode
        self.attrs = layout.read_attrs(place)
        self.rank = self.attrs.get("rank", 2)
        self._axes, self._sizes = layout.AXES[self.rank], layout.SIZES[self.rank]
        self._storage = storage_of(self.attrs)
        self._reopen()
        self._predictions: collections.OrderedDict[int, Any] = collections.OrderedDict()
        #: Label -> settings of this run; others may differ in what does not matter.
        self.settings: dict[str, Any] = {}
        #: Raises where this process may have lost the right to write.
        self.check_writer: Callable[[], None] = lambda: None
        #: Whether something waits to be written in the place of what the disk has.
        self._replaces = False

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
        strict: bool = False,
    ) -> Self:
        """See `Store.create_or_resume`; `path` is a folder or the URL of one in an object store.

        `strict` refuses entries that are new or changed.
        """
        check_plan(entries, plan)
        place = Place(path, writes=True)
        with io_errors(place):
            goes_on, tables = layout.prepare(place, overwrite=overwrite), {}
            if not goes_on:
                tables = layout.create(place, entries, plan, config, attrs or {}, rank)
            store = cls(place, "r+")
            store._tables.update(tables)
            if goes_on:
                changes = store.changes(entries, plan, config, strict=strict)
                for part in ("", *store._parts()):
                    store._journal.check(part)
                store._reopen()
                if changes:
                    store._make_anew(changes, entries, plan, config)
        store.run, store.version = run, version
        store.settings = {entry.label: layout.plain(entry.settings) for entry in entries}
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an existing store to read; JaxsegError where there is none."""
        place = Place(path)
        with io_errors(place):
            return cls(place, "r")

    def changes(
        self, entries: Sequence[Entry], plan: Plan, config: Mapping[str, Any], *, strict: bool
    ) -> dict[str, list[str]]:
        """Label -> what of it is new or changed, see `changes_of`.

        Args:
          entries: of the sweep.
          plan: label -> its rows.
          config: of the sweep.
          strict: nothing may be.

        Raises:
          ConfigError: the store is another sweep's.
        """
        tables = {label: self._table(label) for label in self.labels}
        old, images = self.attrs["config"], self._table(IMAGES)
        found = changes_of(self._place, images, tables, old, entries, plan, config)
        if found and strict:
            told = [change for label in found for change in found[label]]
            raise another(self._place, told, shared=True)
        return found

    def _make_anew(
        self,
        changes: Mapping[str, Sequence[str]],
        entries: Sequence[Entry],
        plan: Plan,
        config: Mapping[str, Any],
    ) -> None:
        """Empty the tables of entries that are new or changed, and say so."""
        for label, told in changes.items():
            again = f"{len(plan[label])} rows are computed"
            _log.warning(f"{self._place}: {', '.join(told)}; {again}, those of others stay")
        self._compaction.run(everything=True)  # so that no journal holds rows of theirs
        self._journal.close()
        make_anew(self._place, self.attrs, list(changes), entries, plan, config)
        self.attrs = layout.read_attrs(self._place)
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

    def set_description(self, label: str, describe: Mapping[str, Any]) -> None:
        """See `Store.set_description`."""
        describe = layout.plain(describe)
        if describe != self.entry(label).describe:
            with io_errors(self._place):
                self._table(label).set_attribute("describe", describe)

    def set_attribute(self, name: str, value: Any) -> None:
        """See `Store.set_attribute`."""
        with io_errors(self._place):
            self.attrs = layout.set_attribute(self._place, name, value)

    def statuses(self, label: str) -> np.ndarray:
        """See `Store.statuses`."""
        return self._table(label).column("status").copy()

    def write_image(self, index: int, image: StoredImage) -> None:
        """See `Store.write_image`."""
        check_picture(image, self.rank)
        arrays = arrays_of_image(image, self.rank)
        self._remember(index, segmentation(arrays, "prediction"))
        values = self._size(image.image.shape[:-1])
        self._add(
            IMAGES, index, values | {name: getattr(image, name) for name in _OF_IMAGE}, arrays
        )

    def image_columns(self) -> dict[str, np.ndarray]:
        """`id`, `stamp` and `content` of all images, texts [images], "" where one is not known."""
        table = self._table(IMAGES)
        for name in set(_OF_IMAGE) - table.column_names:  # no image was written yet
            table.put(name, np.full(table.num_rows, "", object))
        with io_errors(self._place):
            return {name: table.column(name) for name in ("id", *_OF_IMAGE)}

    def make_pending(self, rows: Mapping[str, Iterable[int]]) -> None:
        """Forget that rows were computed, label by label; kept at once, for other processes too."""
        for label, numbers in rows.items():
            for row in numbers:
                self._add(label, int(row), {"status": PENDING, "reason": ""}, {})
        with io_errors(self._place):
            self._compact(everything=True)

    def write(
        self,
        label: str,
        row: int,
        explanation: Explanation,
        target: SegmentTarget,
        *,
        seconds: float = 0.0,
    ) -> None:
        """See `Store.write`."""
        index = int(self._table(label).column("image_index")[row])
        prediction = self._prediction(index) if "prediction" in explanation.maps else None
        arrays, same = arrays_of_explanation(explanation, target, prediction, self._storage)
        values = {f"score_{name}": float(x) for name, x in explanation.scores.items()}
        values |= self._size(np.shape(target.region))
        values |= {"same_prediction": int(same), "seconds": float(seconds)}
        self._finish(label, row, int(explanation.status), values, arrays)

    def fail(self, label: str, row: int, reason: str, status: Status = Status.FAILED) -> None:
        """See `Store.fail`."""
        self._finish(label, row, int(status), {"reason": " ".join(reason.split())}, {})

    def flush(self) -> None:
        """Write a journal, and the shards all of whose rows are there."""
        with io_errors(self._place):
            self._keep()
            self._compact()

    def close(self) -> None:
        """Write the shards of all that is there, for every reader of Zarr."""
        with io_errors(self._place):
            try:
                self._compact(everything=True)
            finally:  # what an error, or the end of this process, left to be written
                self._keep()
            self._journal.close()
            consolidate(self._place, "")

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

    def _finish(
        self, label: str, row: int, status: int, values: Mapping[str, Any], arrays: Arrays
    ) -> None:
        run = {"run": self.run, "version": self.version, "settings": self.settings[label]}
        self._add(label, row, {"status": status, "reason": "", "run": run, **values}, arrays)

    def _add(self, group: str, row: int, values: Mapping[str, Any], arrays: Arrays) -> None:
        row = int(row)
        with io_errors(self._place):
            table = self._table(group)
            if group == IMAGES:
                self._replaces |= bool(table.column("height")[row])
            else:
                self._replaces |= table.column("status")[row] != PENDING
            table.set(row, values)
            self._journal.add(group, row, values, arrays)

    def _keep(self) -> None:
        """Write a journal of what waits, as long as nobody else may write."""
        try:
            self.check_writer()
        except Exception:
            self._journal.discard()
            raise
        self._journal.flush()
        self._replaces = False

    def _size(self, size: Sequence[int]) -> dict[str, int]:
        return dict(zip(self._sizes, size, strict=True))

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
        self._compaction = Compaction(
            self._place, self._journal, self._table, self._axes, self._storage.level
        )

    def _compact(self, *, everything: bool = False) -> None:
        if self._replaces:  # what is half written could not be told from what was there
            self._keep()
        self._compaction.run(everything=everything, check=self.check_writer)

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
