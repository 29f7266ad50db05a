"""Stores of the version before this one, which are read: a chunk for each map, texts in columns."""

import json

import numpy as np

from jaxseg_xai.store.tables import Table


def as_new(table: Table) -> None:
    """Give a table of an old store the columns of a new one, in memory."""
    texts = []
    for name in ("run", "version", "settings"):
        # Stores older than entries lack some of them.
        known = name in table.column_names
        texts.append(table.column(name) if known else np.full(table.num_rows, "", object))
    rows = list(zip(*texts, strict=True))
    runs = [row for row in dict.fromkeys(rows) if any(row)]
    default = json.dumps(table.attrs.get("parameters", {}))
    table.attrs["runs"] = [
        {"run": run, "version": version, "settings": json.loads(settings or default)}
        for run, version, settings in runs
    ]
    indices = [runs.index(row) if any(row) else -1 for row in rows]
    table.put("run_index", np.array(indices, np.int16))
    table.put("seconds", np.zeros(table.num_rows, np.float32))
    table.put("same_prediction", np.zeros(table.num_rows, np.int8))
