"""Rows that were computed and are not yet in a shard: a file a batch, safe once it is written.

    journal/000012.arrays    the bytes of all arrays, one after another
    journal/000012.json      crc32 of the next line
                             {"checksum": crc32 of the arrays,
                              "rows": [[group, row, columns, {name: [dtype, shape], ...}], ...]}

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
from jaxseg_xai.store.place import Place

_FOLDER = "journal"
#: So many bytes wait in memory at most.
_MOST_BYTES = 2**26


@dataclasses.dataclass(frozen=True)
class _Written:
    """The list of a journal."""

    rows: list[tuple[str, int, dict[str, Any], dict[str, Any]]]
    checksum: int


class Journal:
    """The journals of a store, and the rows that wait to become the next one."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._waiting: dict[tuple[str, int], tuple[dict[str, Any], Arrays]] = {}
        self._bytes = 0
        self._values: dict[str, dict[int, dict[str, Any]]] = {}
        self._written: dict[int, _Written] = {}
        self._newest: dict[tuple[str, int], int] = {}
        #: The journal that was read last: its rows' arrays.
        self._last: tuple[int, dict[tuple[str, int], Arrays]] = (-1, {})
        for name in place.names(_FOLDER):
            if name.endswith(".json"):
                self._open(int(name.partition(".")[0]))

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
        number = max(self._written, default=0) + 1
        rows, parts = [], []
        for (group, row), (values, arrays) in self._waiting.items():
            kinds = {name: [str(value.dtype), value.shape] for name, value in arrays.items()}
            rows.append((group, row, values, kinds))
            parts += [np.ascontiguousarray(value).data for value in arrays.values() if value.size]
        data = b"".join(parts)
        checksum = zlib.crc32(data)
        self._place.write(_key(number, "arrays"), data)
        text = json.dumps({"checksum": checksum, "rows": rows}).encode()
        self._place.write(_key(number, "json"), b"%d\n%b" % (zlib.crc32(text), text))
        self._keep(number, _Written(rows, checksum))
        self._last = -1, {}  # a number may come again
        self._waiting, self._bytes = {}, 0

    def arrays(self, group: str, row: int) -> Arrays | None:
        """Arrays of a row; None where it is in no journal, or no longer."""
        if (group, row) in self._waiting:
            return self._waiting[group, row][1]
        number = self._newest.get((group, row))
        if number is None or (stored := self._load(number)) is None:
            return None
        return stored[group, row]

    def in_order(self, group: str, rows: range) -> Iterator[tuple[int, Arrays]]:
        """Rows of a group with their arrays, such that each journal is read once."""
        found = [row for row in self.rows(group) if row in rows]
        for row in sorted(found, key=lambda row: self._newest.get((group, row), 0)):
            arrays = self.arrays(group, row)
            if arrays is None:
                raise OSError(f"{_FOLDER} lost a file that row {row} of {group} is in")
            yield row, arrays

    def drop(self, group: str, rows: range) -> None:
        """Forget rows that are in a shard now, and delete the journals that hold nothing else."""
        for row in [row for row in self.rows(group) if row in rows]:
            del self._values[group][row]
            self._newest.pop((group, row), None)
        self._delete_what_is_over()

    def close(self) -> None:
        """Remove the folder, where nothing is in it."""
        if not self._written:
            self._place.delete_all(_FOLDER)

    def damage(self) -> list[str]:
        """A line for each journal that does not fit its checksum."""
        keys = [_key(n, "arrays") for n in self._written if self._load(n) is None]
        return [f"{key}: does not fit its checksum" for key in keys]

    def check(self) -> None:
        """Give up journals that do not fit their checksum, and what was written of others."""
        for number in list(self._written):
            if self._load(number) is None:
                logging.getLogger(__name__).warning(
                    f"{self._place}: {_key(number, 'arrays')} is damaged; its "
                    f"{len(self._written[number].rows)} rows are computed again"
                )
                for group, row, *_ in self._written[number].rows:
                    if self._newest.get((group, row)) == number:
                        del self._newest[group, row], self._values[group][row]
        self._delete_what_is_over()
        known = {_key(n, e) for n in self._written for e in ("json", "arrays")}
        names = {f"{_FOLDER}/{name}" for name in self._place.names(_FOLDER)}
        self._place.delete(*(names - known))

    def _delete_what_is_over(self) -> None:
        needed = set(self._newest.values())
        for number in [number for number in self._written if number not in needed]:
            # The list first: what it lists must be there.
            self._place.delete(_key(number, "json"), _key(number, "arrays"))
            del self._written[number]

    def _open(self, number: int) -> None:
        text = self._place.read(_key(number, "json"))
        if text is None:
            return  # in a shard meanwhile
        checksum, _, text = text.partition(b"\n")
        if checksum != b"%d" % zlib.crc32(text):
            return  # of a disk that lost its power; `check` deletes it
        written = _Written(**json.loads(text))
        for group, row, values, _ in written.rows:
            self._values.setdefault(group, {})[row] = values
        self._keep(number, written)

    def _keep(self, number: int, written: _Written) -> None:
        self._written[number] = written
        self._newest |= {(group, row): number for group, row, *_ in written.rows}

    def _load(self, number: int) -> dict[tuple[str, int], Arrays] | None:
        last = self._last  # of readers in several threads each has its own
        if last[0] != number:
            data, written = self._place.read(_key(number, "arrays")), self._written[number]
            if data is None or zlib.crc32(data) != written.checksum:
                return None
            found, start = {}, 0
            for group, row, _, kinds in written.rows:
                arrays = found[group, row] = {}
                for name, (dtype, shape) in kinds.items():
                    values = np.frombuffer(data, dtype, math.prod(shape), start)
                    arrays[name] = values.reshape(shape)
                    start += values.nbytes
            self._last = last = number, found
        return last[1]


def _key(number: int, ending: str) -> str:
    return f"{_FOLDER}/{number:06d}.{ending}"


def _size(arrays: Arrays) -> int:
    return sum(value.nbytes for value in arrays.values())
