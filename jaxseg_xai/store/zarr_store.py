"""The store on disk: what a sweep writes, row by row, and what others read; see `store.layout`."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from jaxseg_xai.core.types import Explanation, SegmentTarget, Status
from jaxseg_xai.store import layout
from jaxseg_xai.store.base import PENDING, check_picture
from jaxseg_xai.store.changes import another, changes_of, make_anew
from jaxseg_xai.store.compaction import Compaction
from jaxseg_xai.store.encode import (
    Arrays,
    arrays_of_explanation,
    arrays_of_image,
    segmentation,
)
from jaxseg_xai.store.layout import IMAGES
from jaxseg_xai.store.place import Place, io_errors
from jaxseg_xai.store.precision import storage_of
from jaxseg_xai.store.records import (
    Entry,
    Plan,
    StoredImage,
    check_plan,
)
from jaxseg_xai.store.tables import consolidate
from jaxseg_xai.store.zarr_reader import StoredTables

#: Columns of images beside their names and sizes.
_OF_IMAGE = ("stamp", "content")
_log = logging.getLogger(__name__)


class ZarrStore(StoredTables):
    """An open store; make one with `create_or_resume` (to write) or `open` (to read)."""

    def __init__(self, place: Place, mode: str) -> None:
        super().__init__(place, mode)
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

    def _compact(self, *, everything: bool = False) -> None:
        if self._replaces:  # what is half written could not be told from what was there
            self._keep()
        self._compaction.run(everything=everything, check=self.check_writer)

    def _reopen(self) -> None:
        super()._reopen()
        self._storage = storage_of(self.attrs)
        self._compaction = Compaction(
            self._place, self._journal, self._table, self._axes, self._storage.level
        )
