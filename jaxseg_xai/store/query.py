"""Questions in SQL about what a store holds, answered by DuckDB; no map is read."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import ConfigError, JaxsegError, MissingExtraError, reason_of
from jaxseg_xai.core.types import Status
from jaxseg_xai.store.zarr_store import ZarrStore

#: What rows of every entry have, in SQL.
_COMMON = (
    "image, class, region, status, nullif(reason, '') AS reason, "
    "nullif(seconds, 0) AS seconds, run, version"
)


def query(store: ZarrStore, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns and the rows that a question yields.

    There is a table for every label, and `rows` with those of all: label, method, image, class (its
    name, or its number where it has none), region, status (`OK`, `PENDING`, ...), reason, seconds,
    run, version, seed, and every score under its name. What is not defined is NULL.

        query(store, "SELECT label, avg(dice) FROM rows WHERE status = 'OK' GROUP BY label")

    Args:
      store: what is asked.
      sql: the question.

    Raises:
      ConfigError: it is no question that the store can answer; the message is DuckDB's.
    """
    with _answered(store, sql) as found:
        return [column[0] for column in found.description], found.fetchall()


def save_query(store: ZarrStore, sql: str, path: Path) -> None:
    """Write the answer of a question to a file, .parquet or .csv; see `query`."""
    endings = {".parquet": "parquet", ".csv": "csv"}
    if path.suffix not in endings:
        raise ConfigError(f"{path}: an answer is saved as .parquet or .csv")
    quoted = str(path).replace("'", "''")
    with _answered(
        store, f"COPY ({sql.rstrip('; ')}) TO '{quoted}' (FORMAT {endings[path.suffix]})"
    ):
        pass


@contextlib.contextmanager
def _answered(store: ZarrStore, sql: str) -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("a query", "query") from error
    tables = {label: store.columns(label) for label in store.labels}
    # Python's variables are no tables.
    with duckdb.connect(config={"python_enable_replacements": False}) as connection:
        for number, (label, columns) in enumerate(tables.items()):
            connection.register(f"_{number}", _known(store, columns))
            scores = [name for name in columns if name.startswith("score_")]
            # NaN is larger than every number there, and a mean with it NaN.
            told = [f"nullif({_name(n)}, 'nan'::FLOAT) AS {_name(n[6:])}" for n in scores]
            seed = store.attrs.get("seed")
            first = [f"{_text(label)} AS label, {_text(store.entry(label).method)} AS method"]
            last = [f"{'NULL' if seed is None else int(seed)} AS seed"]
            words = ", ".join([*first, _COMMON, *last, *told])
            connection.execute(f"CREATE VIEW {_name(label)} AS SELECT {words} FROM _{number}")
        every = " UNION ALL BY NAME ".join(f"SELECT * FROM {_name(label)}" for label in tables)
        connection.execute(f"CREATE VIEW rows AS {every}")
        try:
            yield connection.execute(sql)
        except duckdb.IOException as error:
            raise JaxsegError(f"the answer cannot be written ({reason_of(error)})") from error
        except duckdb.Error as error:
            raise ConfigError(f"{store.name} cannot answer: {reason_of(error)}") from error


def _known(store: ZarrStore, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns with names in the place of numbers."""
    statuses = np.array([*(Status(n).name for n in range(len(Status))), "PENDING"], object)
    names = dict(enumerate(store.class_names))
    classes, which = np.unique(columns["class_index"], return_inverse=True)
    found = {n: v for n, v in columns.items() if n.startswith("score_")}
    return found | {
        "image": columns["image"],
        "class": np.array([names.get(int(n), str(n)) for n in classes], object)[which],
        "region": columns["region_name"],
        "status": statuses[columns["status"]],  # -1, pending, is the last
        "reason": columns["reason"],
        "seconds": columns["seconds"],
        "run": columns["run"],
        "version": columns["version"],
    }


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
