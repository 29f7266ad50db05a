"""Many rows in one file: Zarr's shards, written whole when all of their rows are known.

A shard holds 1,024 rows, or as many as fit into memory where rows are large. Within it the rows lie
in chunks of half a megabyte, compressed, each with its checksum: one is read without the others.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from zarr.codecs import BloscCodec, Crc32cCodec

from jaxseg_xai.store.tables import Table, side_by_side

#: Rows of a shard at most, and their bytes, of all arrays together, before they are compressed.
MOST_ROWS, _MOST_BYTES = 1024, 2**29
#: Bytes of a chunk within a shard, before they are compressed.
_CHUNK = 2**19


def rows_per_shard(num_bytes: int, num_rows: int) -> int:
    """How many rows a shard has; a power of two.

    Args:
      num_bytes: of all arrays of a row.
      num_rows: of the table.
    """
    rows = MOST_ROWS
    while rows > 1 and (rows * num_bytes > _MOST_BYTES or rows >= 2 * num_rows):
        rows //= 2
    return rows


def ranges(rows: Iterable[int], per_shard: int, num_rows: int) -> list[range]:
    """The rows of the shards in which some rows lie, ascending."""
    starts = sorted({row - row % per_shard for row in rows})
    return [range(start, min(start + per_shard, num_rows)) for start in starts]


def write_shard(
    table: Table,
    rows: range,
    found: Mapping[int, Mapping[str, np.ndarray]],
    *,
    dims: Mapping[str, tuple[str, ...]],
    fills: Mapping[str, Any],
    per_shard: int,
    level: int,
) -> None:
    """Write arrays of rows of one shard; what others it holds stays as it is.

    Args:
      table: where they go.
      rows: of the shard.
      found: rows with their arrays [*dims].
      dims: name of an array -> its dimensions after the rows.
      fills: name of an array -> what stands where nothing was written; NaN or 0 elsewhere.
      per_shard: rows of a shard.
      level: of the compression.
    """
    values = {n: {r: a[n] for r, a in found.items() if n in a} for n in dims}
    sizes = [
        (dim, size)
        for name, by_row in values.items()
        for value in by_row.values()
        for dim, size in zip(dims[name], value.shape, strict=True)
    ]
    table.resize(sizes)
    new = {}
    for name in values.keys() - table.arrays.keys():
        dtype = next(iter(values[name].values())).dtype
        fill = fills.get(name, np.nan if dtype.kind == "f" else 0)
        sides = [table.sizes[dim] for dim in dims[name]]
        new[name] = {"dims": dims[name], "fill_value": fill}
        new[name] |= _layout(sides, dtype, per_shard, level)
    table.create(new)
    writes = []
    for name, by_row in values.items():
        array = table.arrays[name]
        # All of them: the shard is written in one piece, without a look at the old one.
        if len(by_row) == len(rows):
            block = np.empty((len(rows), *array.shape[1:]), array.dtype)
        else:
            block = np.array(array[rows.start : rows.stop])
        for row, value in by_row.items():
            place = block[row - rows.start]
            if value.shape != place.shape:
                place[...] = array.fill_value
            place[tuple(map(slice, value.shape))] = value
        writes.append(array.async_array.setitem(slice(rows.start, rows.stop), block))
    side_by_side(writes)


def _layout(sides: Sequence[int], dtype: np.dtype, per_shard: int, level: int) -> dict[str, Any]:
    # Zarr wants chunks of at least one element, also for an empty trace.
    size = tuple(max(side, 1) for side in sides)
    of_row, rows = math.prod(size) * dtype.itemsize, 1
    while 2 * rows * of_row <= _CHUNK and 2 * rows <= per_shard:
        rows *= 2
    return {
        "dtype": dtype,
        "chunks": (rows, *size),
        "shards": (per_shard, *size) if rows < per_shard else None,
        "compressors": [BloscCodec(cname="zstd", clevel=level, shuffle="shuffle"), Crc32cCodec()],
    }
