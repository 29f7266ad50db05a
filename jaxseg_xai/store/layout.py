"""The store on disk: making it, recognising it, and comparing it with a plan."""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.types import Status
from jaxseg_xai.store.records import Plan, PlanRow
from jaxseg_xai.store.tables import Table, consolidate

PENDING = -1
#: Columns that a table has from its creation, by its rows' dimension.
_COLUMNS = {
    "image": {"id", "height", "width"},
    "explanation": {"image_index", "class_index", "region_name", "id", "reason", "status"}
    | {"height", "width"},
}
_MARK = "jaxseg_xai_store"
_FORMAT = 1


def plain(value: Any) -> Any:
    """A value as JSON keeps it, so that what is written and what is read compare equal."""
    return json.loads(json.dumps(value, default=str))


def read_attrs(path: Path) -> dict[str, Any]:
    """Root attributes of the store at `path`; JaxsegError where that is something else."""
    try:
        attrs = json.loads((path / "zarr.json").read_text())["attributes"]
        if attrs[_MARK] == _FORMAT:
            return attrs
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError):
        pass
    what = "is not an explanation store of this version" if path.exists() else "does not exist"
    raise JaxsegError(f"{path} {what}; name a folder made by a sweep, or a new one for a sweep")


def open_table(path: Path, name: str, row_dim: str, mode: str) -> Table:
    """The table in group `name` of the store at `path`; JaxsegError where its plan is not whole."""
    try:
        # Consolidated metadata may be stale after a crash; the arrays' own are not.
        group = zarr.open_group(
            str(path / name),
            mode=mode,  # pyright: ignore[reportArgumentType]
            zarr_format=3,
            use_consolidated=False,
        )
        height = group["height"]
        assert isinstance(height, zarr.Array)
        table = Table(group, row_dim, height.shape[0])
    except (FileNotFoundError, KeyError, ValueError):  # ValueError: JSON that is cut off
        raise _damaged(path, name, _COLUMNS[row_dim]) from None
    if missing := _COLUMNS[row_dim] - table.columns.keys():
        raise _damaged(path, name, missing)
    return table


def _damaged(path: Path, name: str, missing: set[str]) -> JaxsegError:
    # Not by a sweep that was killed: `create` shows a store only when it has all of this.
    return JaxsegError(
        f"{path} is damaged: {name} lacks {', '.join(sorted(missing))}; "
        "restore it, or sweep again with --overwrite"
    )


def create(
    path: Path,
    plan: Plan,
    config: Mapping[str, Any],
    attrs: Mapping[str, Any],
    parameters: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write an empty store with its plan; `path` appears only when it is complete."""
    for name in plan:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or name == "images":
            raise ConfigError(f"{name!r} cannot name a group of the store; use letters and digits")
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    root = zarr.create_group(
        str(partial),
        zarr_format=3,
        attributes=plain(attrs)
        | {_MARK: _FORMAT, "config": plain(config), "explainers": list(plan)},
    )
    rows = [row for explainer in plan.values() for row in explainer]
    ids = np.full(max((row.image_index for row in rows), default=-1) + 1, "", object)
    for row in rows:
        ids[row.image_index] = row.image_id
    images = Table(root.create_group("images"), "image", len(ids))
    images.add_column("id", ids, "")
    _add_sizes(images)
    for name, rows in plan.items():
        group = root.create_group(name, attributes={"parameters": plain(parameters.get(name, {}))})
        _add_plan(Table(group, "explanation", len(rows)), rows)
    consolidate(partial, ["images", *plan])
    if path.exists():
        path.rmdir()  # empty: `create` is called for nothing else
    partial.rename(path)


def clear_unfinished(path: Path, groups: Iterable[str]) -> None:
    """Remove what a killed process left of the arrays and metadata it was writing.

    An array that holds something, but lost its metadata otherwise, is a JaxsegError.
    """
    for folder in (path, *(path / group for group in groups)):
        for half in folder.glob("zarr.*.partial"):
            half.unlink()
    for group in groups:
        for array in (path / group).iterdir():
            if array.is_dir() and not (array / "zarr.json").exists():
                if any(not entry.name.endswith(".partial") for entry in array.iterdir()):
                    raise _damaged(path, group, {f"{array.name}/zarr.json"})
                shutil.rmtree(array)


def plan_row(images: Table, table: Table, row: int) -> PlanRow:
    """Row `row` of the plan, as stored."""
    index = int(table.columns["image_index"][row])
    return PlanRow(
        image_index=index,
        image_id=str(images.columns["id"][index]),
        class_index=int(table.columns["class_index"][row]),
        region_name=str(table.columns["region_name"][row]),
    )


def check_same(
    path: Path,
    images: Table,
    tables: Mapping[str, Table],
    old_config: Mapping[str, Any],
    plan: Plan,
    config: Mapping[str, Any],
) -> None:
    """Raise a ConfigError that names what differs between the stored sweep and the asked one."""
    old, new = dict(_flat(old_config)), dict(_flat(plain(config)))
    changes = [
        f"{key} was {old.get(key, 'absent')}, is {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "absent") != new.get(key, "absent")
    ]
    if list(plan) != list(tables):
        changes.append(f"explainers were {', '.join(tables)}, are {', '.join(plan)}")
    for name in [name for name in tables if name in plan]:
        table, rows = tables[name], plan[name]
        if table.num_rows != len(rows):
            changes.append(f"{name} had {table.num_rows} rows, has {len(rows)}")
            continue
        pairs = [(plan_row(images, table, i), row) for i, row in enumerate(rows)]
        moved = [(a.id, b.id) for a, b in pairs if a != b]
        if moved:
            first = " instead of ".join(reversed(moved[0]))
            changes.append(f"{len(moved)} rows of {name} differ (the first is {first})")
    if changes:
        more = f"; and {len(changes) - 4} more" if len(changes) > 4 else ""
        raise ConfigError(
            f"{path} holds another sweep: {'; '.join(changes[:4])}{more}. "
            "Choose another --out, or --overwrite to start again"
        )


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _add_sizes(table: Table) -> None:
    for name in ("height", "width"):
        table.add_column(name, np.zeros(table.num_rows, np.int32), 0)


def _add_plan(table: Table, rows: Iterable[PlanRow]) -> None:
    rows = list(rows)
    for name in ("image_index", "class_index"):
        table.add_column(name, np.array([getattr(row, name) for row in rows], np.int32), -1)
    for name in ("region_name", "id"):
        table.add_column(name, np.array([getattr(row, name) for row in rows], object), "")
    table.add_column("reason", np.full(len(rows), "", object), "")
    _add_sizes(table)
    # CF's way to name the values of a flag, which xarray shows.
    table.add_column(
        "status",
        np.full(len(rows), PENDING, np.int8),
        PENDING,
        flag_values=[PENDING, *(int(status) for status in Status)],
        flag_meanings=" ".join(["pending", *(status.name.lower() for status in Status)]),
    )
