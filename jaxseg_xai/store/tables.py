"""Zarr groups as tables: the columns in memory, and the arrays of many rows beside them.

The two have opposite needs. A score is four bytes: 65,536 rows share a chunk, and a chunk is
written anew when rows are added to it. Maps are large: see `store.shards`. A table has one writer.
"""

import asyncio
import json
import warnings
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import zarr
from zarr.api.asynchronous import create_array
from zarr.buffer import default_buffer_prototype
from zarr.codecs import ZstdCodec
from zarr.core.sync import sync

from jaxseg_xai.store.place import Place, damaged

COLUMN_CHUNK = 2**16
#: Flat chunk names ("c.7.0.0"): one file a chunk instead of two directories and a file.
FLAT: Any = {"name": "default", "separator": "."}


@contextmanager
def unfinished_ignored() -> Iterator[None]:
    """Look into groups in which a killed process may have left an array that it was creating.

    Its folder is there, its `zarr.json` is not, and a half-written copy of that may be. zarr warns
    of both. The next sweep creates the array again.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component")
        # zarr tells that v3 readers other than zarr-python may ignore it; they may.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        yield


def consolidate(place: Place, *groups: str) -> None:
    """Write the consolidated metadata of groups, by which tables are opened; "" is the root.

    As `zarr.consolidate_metadata`, which takes twice as long to understand what it reads. What has
    no metadata is none of the store's arrays, or an array that a killed process was creating.
    """
    for group in groups:
        own = read_metadata(place, group)
        found = _below(place, group)
        for name in [name for name, one in found.items() if one["node_type"] == "group"]:
            inner = _below(place, name)
            found |= {f"{name}/{key}": one for key, one in inner.items()}
            found[name]["consolidated_metadata"] = _consolidated({})
        own["consolidated_metadata"] = _consolidated(found)
        write_metadata(place, group, own)


def read_metadata(place: Place, group: str) -> dict[str, Any]:
    """What stands in a group's `zarr.json`.

    Raises:
      FileNotFoundError: there is none.
    """
    text = place.read(f"{group}/zarr.json".lstrip("/"))
    if text is None:
        raise FileNotFoundError(f"{group}/zarr.json")
    return json.loads(text)


def write_metadata(place: Place, group: str, metadata: Mapping[str, Any]) -> None:
    """Write it anew."""
    place.write(f"{group}/zarr.json".lstrip("/"), json.dumps(metadata).encode())


def _below(place: Place, group: str) -> dict[str, dict[str, Any]]:
    """Name -> metadata of the arrays and groups in a group."""
    names = [name for name in place.names(group) if name != "zarr.json"]
    keys = [f"{group}/{name}/zarr.json".lstrip("/") for name in names]
    found = side_by_side(place.zarr.get(key, default_buffer_prototype()) for key in keys)
    pairs = zip(names, found, strict=True)
    return {name: json.loads(text.to_bytes()) for name, text in pairs if text is not None}


def _consolidated(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "inline", "must_understand": False, "metadata": metadata}


def _quickly() -> Any:
    """Settings of zarr for arrays that are made or opened: metadata without indents, and up to 64
    chunks encoded as one piece of work.

    A chunk of nothing but fill values is written, too: finding out takes longer than writing it.
    """
    settings = {"codec_pipeline.batch_size": 64, "array.write_empty_chunks": True}
    return zarr.config.set({"json_indent": None, **settings})


def side_by_side(operations: Iterable[Awaitable[Any]]) -> list[Any]:
    """Have zarr do things at once, which takes half of the time of one after the other.

    Raises the first error when all have ended: a write still under way could land on top of what
    the caller writes next.
    """

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*operations, return_exceptions=True)

    found = sync(all_of_them())
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return found


def open_group(place: Place, name: str, mode: str, *, consolidated: bool = True) -> zarr.Group:
    """A group of a store; FileNotFoundError or ValueError where its metadata are not whole."""
    return zarr.open_group(
        place.zarr,
        path=name,
        mode=mode,  # pyright: ignore[reportArgumentType]
        zarr_format=3,
        use_consolidated=None if consolidated else False,
    )


class Table:
    """One zarr group whose arrays share their first dimension, the rows."""

    def __init__(self, place: Place, group: zarr.Group, row_dim: str, num_rows: int) -> None:
        self._place = place
        self.group, self.row_dim, self.num_rows = group, row_dim, num_rows
        #: True after an array was added or resized: the consolidated metadata are stale.
        self.reshaped = False
        self.arrays: dict[str, zarr.Array[Any]] = {}
        self._runs_changed = False
        self.sizes: dict[str, int] = {}
        self.attrs: dict[str, Any] = dict(group.attrs)
        self._columns: dict[str, np.ndarray] = {}
        #: Columns -> chunks that are not on disk as they are in memory.
        self._changed: dict[str, set[int]] = {}
        #: Rows that are in memory only, and in a journal.
        self._ahead: set[int] = set()
        with unfinished_ignored(), _quickly():
            self.arrays.update(group.arrays())
        for name, array in self.arrays.items():
            for dim, size in zip(self.dims(name)[1:], array.shape[1:], strict=True):
                self.sizes[dim] = max(size, self.sizes.get(dim, 0))

    def dims(self, name: str) -> tuple[str, ...]:
        """Dimension names of an array."""
        metadata: Any = self.arrays[name].metadata
        return tuple(metadata.dimension_names)

    @property
    def column_names(self) -> set[str]:
        """Of the columns, those that are in memory only included."""
        return {name for name, a in self.arrays.items() if a.ndim == 1} | self._columns.keys()

    def column(self, name: str) -> np.ndarray:
        """Values of a column [rows], texts as objects; read when they are asked for.

        Raises:
          JaxsegError: its bytes are damaged.
        """
        if name not in self._columns:
            try:
                values: Any = self.arrays[name][:]
            except (ValueError, RuntimeError) as error:  # a checksum, a codec
                raise damaged(self._place, f"{self.group.basename}/{name} ({error})") from error
            text = values.dtype.kind == "T"
            self._columns[name] = np.array(values, object if text else None)
        return self._columns[name]

    def put(self, name: str, values: np.ndarray) -> None:
        """Have a column in memory only."""
        self._columns[name] = values

    def create(self, arrays: Mapping[str, Mapping[str, Any]]) -> None:
        """Create arrays [rows, *dims].

        Args:
          arrays: name -> what `zarr.create_array` takes, and as `dims` the names of its dimensions
            after the rows, whose sizes are known.
        """

        def create(name: str, dims: Sequence[str] = (), **given: Any) -> Awaitable[Any]:
            return create_array(
                self.group.store,
                name=f"{self.group.path}/{name}",
                shape=(self.num_rows, *(self.sizes[dim] for dim in dims)),
                dimension_names=(self.row_dim, *dims),
                chunk_key_encoding=FLAT,
                overwrite=True,  # a killed process may have left a half of it
                **given,
            )

        if not arrays:
            return
        with _quickly():
            made = side_by_side(create(name, **given) for name, given in arrays.items())
        self.arrays.update(zip(arrays, map(zarr.Array, made), strict=True))
        self.reshaped = True

    def add_columns(
        self,
        columns: Mapping[str, tuple[np.ndarray, Any]],
        attributes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Create columns and write them whole; an object array is stored as strings.

        Args:
          columns: name -> (values [rows], what stands where nothing is written).
          attributes: name -> attributes of the array, of those that have any.
        """
        self.create(
            {
                name: {
                    "dtype": "str" if values.dtype == object else values.dtype,
                    "chunks": (min(COLUMN_CHUNK, max(1, self.num_rows)),),
                    "fill_value": fill,
                    "compressors": [ZstdCodec(level=0, checksum=True)],
                    "attributes": dict((attributes or {}).get(name, {})),
                }
                for name, (values, fill) in columns.items()
            }
        )
        self._columns |= {name: values.copy() for name, (values, _) in columns.items()}
        side_by_side(
            self.arrays[name].async_array.setitem(slice(None), values)
            for name, (values, fill) in columns.items()
            if not np.all(np.isnan(values) if fill != fill else values == fill)
        )

    def set(self, row: int, values: Mapping[str, Any]) -> None:
        """Set columns of a row in memory; they reach the disk with `write_columns`.

        A new name becomes a column of "" where the value is text, else a float32 column of NaN.
        `run` is one of the attribute `runs`, whose number is kept.
        """
        if "run" in values:
            values = {**values, "run_index": self._number_of(values["run"])}
            del values["run"]
        for name, value in values.items():
            if name not in self._columns and name not in self.arrays:
                fill, dtype = ("", object) if isinstance(value, str) else (np.nan, np.float32)
                self._columns[name] = np.full(self.num_rows, fill, dtype)
            if self.column(name)[row] != value:
                self.column(name)[row] = value
                self._changed.setdefault(name, set()).add(row // COLUMN_CHUNK)
        self._ahead.add(row)

    def create_columns(self) -> None:
        """Create those that are in memory only; they are written with `write_columns`."""
        found = {n: v for n, v in self._columns.items() if n not in self.arrays}
        if not found:
            return
        fills = {n: "" if v.dtype == object else np.float32(np.nan) for n, v in found.items()}
        empty = {n: (np.full(self.num_rows, fills[n], v.dtype), fills[n]) for n, v in found.items()}
        self.add_columns(dict(sorted(empty.items())))
        self._columns |= found

    def write_columns(self, rows: range, *, last: str = "") -> None:
        """Bring rows of all columns to disk; column `last` comes after all the others.

        Rows that are in memory only otherwise stay as they are on disk: pending.
        """
        if self._runs_changed:
            self.set_attribute("runs", self.attrs["runs"])
            self._runs_changed = False
        self._ahead.difference_update(rows)
        chunks = {row // COLUMN_CHUNK for row in rows}
        for names in (self._changed.keys() - {last}, self._changed.keys() & {last}):
            writes, written = [], []
            for name in sorted(names):
                for chunk in sorted(chunks & self._changed[name]):
                    start = chunk * COLUMN_CHUNK
                    part = slice(start, min(start + COLUMN_CHUNK, self.num_rows))
                    values = self._columns[name][part].copy()
                    ahead = [row - start for row in self._ahead if row // COLUMN_CHUNK == chunk]
                    values[ahead] = self.arrays[name].fill_value
                    writes.append(self.arrays[name].async_array.setitem(part, values))
                    written += [] if ahead else [(name, chunk)]
            side_by_side(writes)
            for name, chunk in written:
                self._changed[name].discard(chunk)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute of the group, on disk at once."""
        self.attrs[name] = value
        # As it is now: the metadata of arrays that came since this group was opened stand beside.
        group = zarr.open_group(self.group.store, path=self.group.path, mode="r+", zarr_format=3)
        group.attrs[name] = value

    def _number_of(self, run: Mapping[str, Any]) -> int:
        if run not in self.attrs["runs"]:
            self.attrs["runs"], self._runs_changed = [*self.attrs["runs"], run], True
        return self.attrs["runs"].index(run)

    def resize(self, needed: Iterable[tuple[str, int]]) -> None:
        """Make every array as large as its dimensions; chunks stay, larger rows span several."""
        for dim, size in needed:
            self.sizes[dim] = max(size, self.sizes.get(dim, 0))
        for name, array in self.arrays.items():
            shape = (self.num_rows, *(self.sizes[dim] for dim in self.dims(name)[1:]))
            if array.shape != shape:
                array.resize(shape)
                self.reshaped = True
