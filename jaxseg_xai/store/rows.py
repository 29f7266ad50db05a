"""From the columns of a table to rows; columns are looked at once, not row by row."""

import itertools
import json
from collections.abc import Mapping
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
        # Stores older than entries lack some columns of text.
        values = table.columns.get(name)
        return [""] * len(numbers) if values is None else values[numbers].tolist()

    # Sorted: the order on disk is the file system's.
    names = sorted(name[6:] for name in table.columns if name.startswith("score_"))
    scores = zip(*(column(f"score_{name}") for name in names), strict=True)
    settings: dict[str, Mapping[str, Any]] = {"": entry.settings}  # each text is parsed once
    found = []
    for number, index, class_index, region, status, reason, run, version, text, values in zip(
        numbers.tolist(),
        column("image_index"),
        column("class_index"),
        column("region_name"),
        column("status"),
        column("reason"),
        column("run"),
        column("version"),
        column("settings"),
        scores if names else itertools.repeat((), len(numbers)),
        strict=True,
    ):
        if text not in settings:
            settings[text] = json.loads(text)
        pending = status == PENDING
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
                run=run,
                version=version,
                settings=settings[text],
            )
        )
    return found
