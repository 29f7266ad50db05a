"""What of a store is damaged: everything in it is read."""

from collections.abc import Iterator

import numpy as np

from jaxseg_xai.core.errors import reason_of
from jaxseg_xai.store.journal import Journal
from jaxseg_xai.store.tables import Table


def damage_of(name: str, table: Table, journal: Journal) -> Iterator[str]:
    """A line for each damaged or missing part of a table.

    Args:
      name: of its group.
      table: of a store that no sweep writes to meanwhile.
      journal: of the store.
    """
    ahead = list(journal.rows(name))
    written = table.column("height") > 0
    written[ahead] = False  # they are in no shard yet
    for array_name, array in table.arrays.items():
        if array.ndim == 1:
            continue
        step = (array.shards or array.chunks)[0]
        for start in range(0, table.num_rows, step):
            rows = slice(start, min(start + step, table.num_rows))
            which = f"{name}/{array_name}, rows {rows.start} to {rows.stop - 1}"
            try:
                values = np.asarray(array[rows])
            except (ValueError, RuntimeError, OSError) as error:  # a checksum, a codec, the disk
                yield f"{which}: {reason_of(error)}"
                continue
            # Maps are finite: NaN is where nothing was written.
            if array_name == "attribution":
                lost = written[rows] & np.isnan(values).reshape(len(values), -1).all(axis=1)
                if lost.any():
                    yield f"{which}: {int(lost.sum())} of them are not there"
