"""Rows that were computed and are not yet in a shard: a file a batch, safe once it is written.

    journal/000012.arrays    the bytes of all arrays, one after another
    journal/000012.json      crc32 of the next line
                             {"checksum": crc32 of the arrays,
                              "rows": [[group, row, columns, {name: [dtype, shape], ...}], ...],
                              "attributes": {group: {name: value}}}
    journal/7/000012_a3f.*   the same of part 7 of a sweep of many processes, and of one of them

The list is written last: without it the arrays are nobody's. A row that stands in several journals
is as the last one has it, and one in a shard is as its journal has it, if there is one.
"""

import dataclasses
import json
import logging
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxseg_xai.store.encode import Arrays
from jaxseg_xai.store.place import JOURNAL, Place

_ENDINGS = (".json", ".arrays", ".partial")
#: So many bytes wait in memory at most.
_MOST_BYTES = 2**26


@dataclasses.dataclass(frozen=True)
class _Written:
    """The list of a journal."""

    rows: list[tuple[str, int, dict[str, Any], dict[str, Any]]]
    checksum: int
    attributes: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


class Journal:
    """Journals of a store, and the rows that wait to become the next one.

    Attributes:
      attributes: group ("" is the root) -> attributes that its writer is to set.
    """

    def __init__(self, place: Place, part: str = "", writer: str = "") -> None:
        """Read the journals of the store itself, or of a part of a sweep.

        Args:
          place: of the store.
          part: whose journals are read and written; "" the store's own.
          writer: makes names of journals that no other process writes.
        """
        self._place, self._writer = place, writer
        self._folder = _folder(part)
        self._waiting: dict[tuple[str, int], tuple[dict[str, Any], Arrays]] = {}
        self._bytes = 0
        self.attributes: dict[str, dict[str, Any]] = {}
        self._values: dict[str, dict[int, dict[str, Any]]] = {}
        self._written: dict[str, _Written] = {}
        self._newest: dict[tuple[str, int], str] = {}
        #: The journal that was read last: its rows' arrays.
        self._last: tuple[str, dict[tuple[str, int], Arrays]] = ("", {})
        self.open(part)

    def open(self, part: str) -> dict[str, list[int]]:
        """Read the journals of a part, too; group -> its rows there."""
        found: dict[str, list[int]] = {}
        for name in self._place.names(_folder(part)):
            if name.endswith(".json"):
                key = f"{_folder(part)}/{name.removesuffix('.json')}"
                for group, row, *_ in self._open(key):
                    found.setdefault(group, []).append(row)
        return found

    def rows(self, group: str) -> Mapping[int, Mapping[str, Any]]:
        """Rows of a group -> their columns, those that wait included."""
        return self._values.get(group, {})

    def groups(self) -> list[str]:
        """Groups that have rows here."""
        return [group for group, rows in self._values.items() if rows]

    def add(self, group: str, row: int, values: Mapping[str, Any], arrays: Arrays) -> None:
        """Take a row; it is safe after the next `flush`, which may come at once."""
        replaced = self._waiting.pop((group, row), ({}, {}))[1]
        self._bytes += _size(arrays) - _size(replaced)
        self._waiting[group, row] = dict(values), arrays
        self._values.setdefault(group, {})[row] = dict(values)
        if self._bytes > _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        numbers = [int(key.rpartition("/")[2].partition("_")[0]) for key in self._written]
        key = f"{self._folder}/{max(numbers, default=0) + 1:06d}{self._writer}"
        rows, parts = [], []
        for (group, row), (values, arrays) in self._waiting.items():
            kinds = {name: [str(value.dtype), value.shape] for name, value in arrays.items()}
            rows.append((group, row, values, kinds))
            parts += [np.ascontiguousarray(value).data for value in arrays.values() if value.size]
        data = b"".join(parts)
        checksum = zlib.crc32(data)
        self._place.write(f"{key}.arrays", data)
        written = _Written(rows, checksum, self.attributes)
        text = json.dumps(dataclasses.asdict(written)).encode()
        self._place.write(f"{key}.json", b"%d\n%b" % (zlib.crc32(text), text))
        self._keep(key, written)
        self._last = "", {}  # a number may come again
        self._waiting, self._bytes = {}, 0

    def arrays(self, group: str, row: int) -> Arrays | None:
        """Arrays of a row; None where it is in no journal, or no longer."""
        if (group, row) in self._waiting:
            return self._waiting[group, row][1]
        key = self._newest.get((group, row))
        if key is None or (stored := self._load(key)) is None:
            return None
        return stored[group, row]

    def in_order(self, group: str, rows: range) -> Iterator[tuple[int, Arrays]]:
        """Rows of a group with their arrays, such that each journal is read once."""
        found = [row for row in self.rows(group) if row in rows]
        for row in sorted(found, key=lambda row: self._newest.get((group, row), "")):
            arrays = self.arrays(group, row)
            if arrays is None:
                raise OSError(f"{JOURNAL} lost a file that row {row} of {group} is in")
            yield row, arrays

    def drop(self, group: str, rows: range) -> None:
        """Forget rows that are in a shard now, and delete the journals that hold nothing else."""
        for row in [row for row in self.rows(group) if row in rows]:
            del self._values[group][row]
            self._newest.pop((group, row), None)
            self._bytes -= _size(self._waiting.pop((group, row), ({}, {}))[1])
        self._delete_what_is_over()

    def discard(self) -> None:
        """Forget what waits."""
        self._waiting, self._bytes = {}, 0

    def close(self) -> None:
        """Remove the folder, where nothing is in it."""
        if not self._written:
            self._place.delete_all(JOURNAL)

    def damage(self) -> list[str]:
        """A line for each journal that does not fit its checksum."""
        keys = [f"{key}.arrays" for key in self._written if self._load(key) is None]
        return [f"{key}: does not fit its checksum" for key in keys]

    def check(self, part: str = "") -> bool:
        """Give up journals that do not fit their checksum, and what was written of others.

        Args:
          part: whose journals.

        Returns:
          Whether they all fit.
        """
        folder, whole = _folder(part), True
        for key in [key for key in self._written if key.rpartition("/")[0] == folder]:
            if self._load(key) is None:
                whole = False
                logging.getLogger(__name__).warning(
                    f"{self._place}: {key}.arrays is damaged; its "
                    f"{len(self._written[key].rows)} rows are computed again"
                )
                for group, row, *_ in self._written[key].rows:
                    if self._newest.get((group, row)) == key:
                        del self._newest[group, row], self._values[group][row]
        self._delete_what_is_over()
        known = {f"{key}{ending}" for key in self._written for ending in _ENDINGS}
        names = [name for name in self._place.names(folder) if name.endswith(_ENDINGS)]
        self._place.delete(*({f"{folder}/{name}" for name in names} - known))
        return whole

    def _delete_what_is_over(self) -> None:
        needed = set(self._newest.values())
        for key in [key for key in self._written if key not in needed]:
            # The list first: what it lists must be there.
            self._place.delete(f"{key}.json", f"{key}.arrays")
            del self._written[key]

    def _open(self, key: str) -> list[tuple[str, int, dict[str, Any], dict[str, Any]]]:
        text = self._place.read(f"{key}.json")
        if text is None:
            return []  # in a shard meanwhile
        checksum, _, text = text.partition(b"\n")
        if checksum != b"%d" % zlib.crc32(text):
            return []  # of a disk that lost its power; `check` deletes it
        written = _Written(**json.loads(text))
        for group, row, values, _ in written.rows:
            self._values.setdefault(group, {})[row] = values
        for group, attributes in written.attributes.items():
            self.attributes.setdefault(group, {}).update(attributes)
        self._keep(key, written)
        return written.rows

    def _keep(self, key: str, written: _Written) -> None:
        self._written[key] = written
        self._newest |= {(group, row): key for group, row, *_ in written.rows}

    def _load(self, key: str) -> dict[tuple[str, int], Arrays] | None:
        last = self._last  # of readers in several threads each has its own
        if last[0] != key:
            data, written = self._place.read(f"{key}.arrays"), self._written[key]
            if data is None or zlib.crc32(data) != written.checksum:
                return None
            found, start = {}, 0
            for group, row, _, kinds in written.rows:
                arrays = found[group, row] = {}
                for name, (dtype, shape) in kinds.items():
                    values = np.frombuffer(data, dtype, math.prod(shape), start)
                    arrays[name] = values.reshape(shape)
                    start += values.nbytes
            self._last = last = key, found
        return last[1]


def parts_of(place: Place) -> list[str]:
    """Parts of a sweep of many processes that have journals."""
    return [name for name in place.names(JOURNAL) if name.isdecimal()]


def _folder(part: str) -> str:
    return f"{JOURNAL}/{part}" if part else JOURNAL


def _size(arrays: Arrays) -> int:
    return sum(value.nbytes for value in arrays.values())
