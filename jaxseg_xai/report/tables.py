"""Tables as files: lists of records, all with the same keys."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxseg_xai.core.errors import MissingExtraError

Records = Sequence[Mapping[str, Any]]


def write_csv(path: Path, rows: Records) -> None:
    """Write a table, its keys in the first line; a number that is not defined is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(["" if undefined(cell) else cell for cell in row.values()])


def write_parquet(path: Path, rows: Records) -> None:
    """Write a table as Parquet; a number that is not defined is null.

    Raises:
      MissingExtraError: without the extra `parquet`.
    """
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("Writing Parquet", "parquet") from error
    columns = {
        name: [None if undefined(row[name]) else row[name] for row in rows] for name in rows[0]
    }
    parquet.write_table(arrow.table(columns), path)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    quoted = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return [f"| {' | '.join(line)} |" for line in quoted]


def undefined(value: Any) -> bool:
    """Whether a cell is a number that is not defined."""
    return isinstance(value, float) and not math.isfinite(value)
