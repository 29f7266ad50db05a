"""Zarr groups as tables: small cached columns and large per-row arrays, grown as they are needed.

The two kinds have opposite needs. A map is written once and is large: one chunk a row, straight to
disk. A score is four bytes: 1024 rows share a chunk, the whole column is kept in memory, and
`flush` rewrites the chunks that changed. (One file a score would make a store of 100 000 rows
hold millions of files, and reading one column would open 100 000 of them.) A table therefore has
one writer.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import zarr

from jaxseg_xai.core.errors import ConfigError, JaxsegError

COLUMN_CHUNK = 1024
#: Flat chunk names ("c.7.0.0"): one file a chunk instead of two directories and a file.
_FLAT = {"name": "default", "separator": "."}


@contextlib.contextmanager
def io_errors(path: Path) -> Iterator[None]:
    """Turn what the file system or the decoder raises into one line that names the store."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise JaxsegError(
            f"{path}: cannot read or write the explanation store ({' '.join(why.split())}); "
            "check the path, its permissions and the free space, then run again to resume"
        ) from error


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold the right to write a store; a process that dies gives it up."""
    with io_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ConfigError(
                f"{path}: another sweep is writing this store; wait for it, or choose another out"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def unfinished_ignored() -> Iterator[None]:
    """Look into groups in which a killed process may have left an array that it was creating.

    Its folder is there, its `zarr.json` is not, and a half-written copy of that may be. zarr warns
    of both. The next sweep creates the array again.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object at .* is not recognized as a component")
        yield


def consolidate(path: Path, groups: list[str]) -> None:
    """Write consolidated metadata, without which xarray warns; needed after any change of shape."""
    with unfinished_ignored():
        # zarr tells that v3 readers other than zarr-python may ignore it; they may.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        for group in groups:
            zarr.consolidate_metadata(str(path), path=group, zarr_format=3)
        zarr.consolidate_metadata(str(path), zarr_format=3)


def fill_of(dtype: np.dtype) -> Any:
    """What stands where nothing was written: NaN for floats, 0 for integers."""
    return np.nan if dtype.kind == "f" else 0


class Table:
    """One zarr group whose arrays share their first dimension, the rows."""

    def __init__(self, group: zarr.Group, row_dim: str, num_rows: int) -> None:
        self.row_dim = row_dim
        self.num_rows = num_rows
        #: True after an array was added or resized, or an attribute set: the consolidated metadata
        #: are stale.
        self.reshaped = False
        self.arrays: dict[str, zarr.Array[Any]] = {}
        self.columns: dict[str, np.ndarray] = {}
        self.sizes: dict[str, int] = {}
        self.attrs: dict[str, Any] = dict(group.attrs)
        self._group = group
        self._dirty: dict[str, set[int]] = {}
        with unfinished_ignored():
            self.arrays.update(group.arrays())
        for name, array in self.arrays.items():
            for dim, size in zip(self.dims(name)[1:], array.shape[1:], strict=True):
                self.sizes[dim] = max(size, self.sizes.get(dim, 0))
            if array.ndim == 1:
                values: Any = array[:]
                text = values.dtype.kind == "T"
                self.columns[name] = np.array(values, object if text else None)

    def dims(self, name: str) -> tuple[str, ...]:
        """Dimension names of an array."""
        metadata: Any = self.arrays[name].metadata
        return tuple(metadata.dimension_names)

    def add_column(self, name: str, values: np.ndarray, fill: Any, **attrs: Any) -> None:
        """Create a column [rows] and write it whole; an object array is stored as strings."""
        text = values.dtype == object
        array = self._create(name, (), "str" if text else values.dtype, fill, (COLUMN_CHUNK,))
        array.attrs.update(attrs)
        self.columns[name] = values.copy()
        if self.num_rows and not np.all(values == fill):
            array[:] = values

    def set_value(self, name: str, row: int, value: Any) -> None:
        """Set one value of a column in memory.

        A new name becomes a column of "" where the value is text, else a float32 column of NaN.
        """
        if name not in self.columns:
            text = isinstance(value, str)
            fill, dtype = ("", object) if text else (np.nan, np.float32)
            self.add_column(name, np.full(self.num_rows, fill, dtype), fill)
        self.columns[name][row] = value
        self._dirty.setdefault(name, set()).add(row // COLUMN_CHUNK)

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute of the group, on disk at once."""
        self.attrs[name] = value
        self._group.attrs[name] = value
        self.reshaped = True

    def write_row(
        self, name: str, row: int, value: np.ndarray, dims: tuple[str, ...], fill: Any = None
    ) -> None:
        """Write one row [*dims] of an array to disk, creating or enlarging the array first."""
        for dim, size in zip(dims, value.shape, strict=True):
            self.sizes[dim] = max(size, self.sizes.get(dim, 0))
        if name not in self.arrays:
            fill = fill_of(value.dtype) if fill is None else fill
            # Zarr wants chunks of at least one element, also for an empty trace.
            chunk = tuple(max(self.sizes[dim], 1) for dim in dims)
            self._create(name, dims, value.dtype, fill, (1, *chunk))
        self.grow()
        array = self.arrays[name]
        if value.shape != array.shape[1:]:
            # Padded here, so that zarr need not read the chunk back.
            padded = np.full(array.shape[1:], array.fill_value, array.dtype)
            padded[tuple(slice(size) for size in value.shape)] = value
            value = padded
        array[row] = value

    def grow(self) -> None:
        """Make every array as large as its dimensions; chunks stay, larger rows span several."""
        for name, array in self.arrays.items():
            shape = (self.num_rows, *(self.sizes[dim] for dim in self.dims(name)[1:]))
            if array.shape != shape:
                array.resize(shape)
                self.reshaped = True

    def flush(self, last: str = "") -> None:
        """Write the changed chunks of the columns; column `last` comes after all the others."""
        for name in sorted(self._dirty, key=lambda name: name == last):
            for chunk in self._dirty[name]:
                rows = slice(chunk * COLUMN_CHUNK, min((chunk + 1) * COLUMN_CHUNK, self.num_rows))
                self.arrays[name][rows] = self.columns[name][rows]
        self._dirty.clear()

    def _create(
        self, name: str, dims: tuple[str, ...], dtype: Any, fill: Any, chunks: tuple[int, ...]
    ) -> zarr.Array[Any]:
        self.arrays[name] = self._group.create_array(
            name,
            shape=(self.num_rows, *(self.sizes[dim] for dim in dims)),
            dtype=dtype,
            chunks=chunks,
            fill_value=fill,
            dimension_names=(self.row_dim, *dims),
            chunk_key_encoding=_FLAT,  # pyright: ignore[reportArgumentType]
        )
        self.reshaped = True
        return self.arrays[name]
