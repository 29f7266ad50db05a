"""`jaxseg-xai store verify | merge | query`: stores as a whole."""

import csv
import dataclasses
import sys
from pathlib import Path

import tyro

from jaxseg_xai.cli.command import EXIT_OK, EXIT_SOME_FAILED, Command
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.store import ZarrStore, merge_stores
from jaxseg_xai.store.layout import is_store
from jaxseg_xai.store.query import query, save_query


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Read everything in a store and say what is damaged; exit code 1 where something is.

    Attributes:
      store: a folder, or the URL of one in an object store.
    """

    store: tyro.conf.Positional[Path] = Path("runs/sweep.zarr")


def run_verify(config: VerifyConfig, command: str) -> int:
    """Print a line for each damaged part."""
    del command
    store = ZarrStore.open(config.store)
    found = store.damage()
    for line in found:
        print(f"damaged: {line}")
    for label, counts in store.counts().items():
        print(f"{label}: {', '.join(f'{n} {status}' for status, n in counts.items())}")
    print("restore these files, or sweep again with --overwrite" if found else "nothing is damaged")
    return EXIT_SOME_FAILED if found else EXIT_OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Write the rows of several stores of one model to a new store.

    Of a row that several have, one that is explained is taken. One store alone is copied; one of an
    earlier version becomes one that a sweep continues.

    Attributes:
      stores: what to merge.
      out: the new store.
    """

    stores: tyro.conf.Positional[tuple[Path, ...]] = ()
    out: Path = Path("runs/merged.zarr")


def run_merge(config: MergeConfig, command: str) -> int:
    """Write the store."""
    del command
    if not config.stores:
        raise ConfigError("name the stores to merge: jaxseg-xai store merge a.zarr b.zarr --out c")
    if is_store(config.out):
        raise ConfigError(f"{config.out} is there already; choose another out")
    merged = merge_stores([ZarrStore.open(path) for path in config.stores], config.out)
    print(f"store: {merged.path}, {len(merged.rows())} explanations")
    return EXIT_OK


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueryConfig:
    """Ask a store a question in SQL, answered by DuckDB; the answer is CSV.

    There is a table for every label, and `rows` with all of them: label, method, image, class,
    region, status, reason, seconds, run, version, seed, and each score under its name.

    Attributes:
      sql: the question.
      store: what is asked.
      out: file for the answer, .parquet or .csv; where left out, it is printed.
    """

    sql: tyro.conf.Positional[str] = "SELECT label, status, count(*) FROM rows GROUP BY ALL"
    store: Path = Path("runs/sweep.zarr")
    out: Path | None = None


def run_query(config: QueryConfig, command: str) -> int:
    """Print the answer, or write it."""
    del command
    store = ZarrStore.open(config.store)
    if config.out is not None:
        save_query(store, config.sql, config.out)
        print(config.out)
        return EXIT_OK
    names, rows = query(store, config.sql)
    csv.writer(sys.stdout, lineterminator="\n").writerows([names, *rows])
    return EXIT_OK


VERIFY = Command(
    config=VerifyConfig, run=run_verify, example="jaxseg-xai store verify runs/sweep.zarr"
)
MERGE = Command(
    config=MergeConfig,
    run=run_merge,
    example="jaxseg-xai store merge runs/a.zarr runs/b.zarr --out runs/both.zarr",
)
QUERY = Command(
    config=QueryConfig,
    run=run_query,
    example='jaxseg-xai store query "SELECT label, avg(seconds) FROM rows GROUP BY label"',
)
