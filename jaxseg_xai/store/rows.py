"""From the columns of a table to rows; columns are looked at once, not row by row."""

import itertools
from typing import Any

import numpy as np

from jaxseg_xai.core.types import Status
from jaxseg_xai.store.base import PENDING
from jaxseg_xai.store.records import Entry, Row
from jaxseg_xai.store.tables import Table


def rows_of(entry: Entry, table: Table, image_ids: np.ndarray, numbers: np.ndarray) -> list[Row]:
    """Some rows of a table.

    Args:
      entry: whose rows they are.
      table: of the entry.
      image_ids: names of all images of the store, str [images].
      numbers: which rows, int [N].
    """

    def column(name: str) -> list[Any]:
        return table.column(name)[numbers].tolist()

    # Sorted: the order on disk is the file system's.
    names = sorted(name[6:] for name in table.column_names if name.startswith("score_"))
    scores = zip(*(column(f"score_{name}") for name in names), strict=True)
    unknown = ("", "", entry.settings)
    runs = [(r["run"], r["version"], r["settings"]) for r in table.attrs.get("runs", ())]
    found = []
    for number, index, class_index, region, status, reason, run, seconds, values in zip(
        numbers.tolist(),
        column("image_index"),
        column("class_index"),
        column("region_name"),
        column("status"),
        column("reason"),
        column("run_index"),
        column("seconds"),
        scores if names else itertools.repeat((), len(numbers)),
        strict=True,
    ):
        pending = status == PENDING
        name, version, settings = runs[run] if run >= 0 else unknown
        found.append(
            Row(
                image_index=index,
                image_id=str(image_ids[index]),
                class_index=class_index,
                region_name=region,
                label=entry.label,
                method=entry.method,
                number=number,
                status=None if pending else Status(status),
                reason=reason,
                scores={} if pending else dict(zip(names, values, strict=True)),
                run=name,
                version=version,
                settings=settings,
                seconds=seconds,
            )
        )
    return found
