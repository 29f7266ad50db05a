"""From journals to shards: which are due, and the order in which they are written."""

from collections.abc import Callable

import numpy as np

from jaxseg_xai.store.base import PENDING
from jaxseg_xai.store.encode import FILLS, dims_of
from jaxseg_xai.store.journal import Journal
from jaxseg_xai.store.layout import IMAGES
from jaxseg_xai.store.place import Place
from jaxseg_xai.store.shards import ranges, rows_per_shard, write_shard
from jaxseg_xai.store.tables import Table, consolidate


class Compaction:
    """Moves rows from the journals of a store into its tables."""

    def __init__(
        self,
        place: Place,
        journal: Journal,
        table: Callable[[str], Table],
        axes: tuple[str, ...],
        level: int,
    ) -> None:
        """Prepare.

        Args:
          place: of the store.
          journal: its journals.
          table: name of a group -> its table.
          axes: of its maps.
          level: of the compression.
        """
        self._place, self._journal, self._table = place, journal, table
        self._axes, self._level = axes, level
        self._per_shard: dict[str, int] = {}

    def run(
        self,
        *,
        everything: bool = False,
        images: np.ndarray | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Write the shards all of whose rows are known.

        Args:
          everything: and those with others.
          images: which of them are known, or will not come; None: they come in order.
          check: called before each; it raises where another process may write by now.
        """
        for group in self._journal.groups():
            table, rows = self._table(group), self._journal.rows(group)
            if everything:
                done = np.ones(table.num_rows, bool)
            elif group == IMAGES:  # not every image comes
                done = np.arange(table.num_rows) < max(rows) if images is None else images
            else:
                done = table.column("status") != PENDING
            for shard in ranges(rows, self._rows_per_shard(group, table), table.num_rows):
                if done[shard.start : shard.stop].all():
                    check()
                    self._compact(group, table, shard)

    def _rows_per_shard(self, group: str, table: Table) -> int:
        """As the arrays have it that are there, or else as the bytes of the first row say."""
        if group not in self._per_shard:
            arrays = (array for array in table.arrays.values() if array.ndim > 1)
            if (array := next(arrays, None)) is not None:
                self._per_shard[group] = (array.shards or array.chunks)[0]
            else:
                rows = (self._journal.arrays(group, row) for row in self._journal.rows(group))
                first = next(filter(None, rows), {})  # one that did not fail
                num_bytes = sum(value.nbytes for value in first.values())
                self._per_shard[group] = rows_per_shard(num_bytes, table.num_rows)
        return self._per_shard[group]

    def _compact(self, group: str, table: Table, rows: range) -> None:
        found = dict(self._journal.in_order(group, rows))
        write_shard(
            table,
            rows,
            found,
            dims={
                name: dims_of(name, value, self._axes)
                for arrays in found.values()
                for name, value in arrays.items()
            },
            fills=FILLS if group == IMAGES else {},
            per_shard=self._rows_per_shard(group, table),
            level=self._level,
        )
        table.create_columns()
        if table.reshaped:
            # Tables are opened by it: before the status says that something is there.
            consolidate(self._place, group)
            table.reshaped = False
        table.write_columns(rows, last="status")
        self._journal.drop(group, rows)
