"""The store on disk: making it, recognising it, and comparing it with a plan."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from jaxseg_xai.core.errors import ConfigError, JaxsegError
from jaxseg_xai.core.parse import json_of, json_value
from jaxseg_xai.core.types import Status
from jaxseg_xai.store.base import PENDING
from jaxseg_xai.store.records import Entry, Plan, PlanRow, check_plan, image_ids
from jaxseg_xai.store.tables import Table, consolidate

#: Rank of the images -> the axes of a map, and the columns that hold its size along them.
AXES = {2: ("y", "x"), 3: ("z", "y", "x")}
SIZES = {2: ("height", "width"), 3: ("depth", "height", "width")}
#: Columns that a table has from its creation, beside the sizes, by its rows' dimension.
_COLUMNS = {
    "image": {"id"},
    "explanation": {"image_index", "class_index", "region_name", "id", "reason", "status"},
}
_MARK = "jaxseg_xai_store"
_FORMAT = 1


def plain(value: Any) -> Any:
    """A value as JSON keeps it, so that what is written and what is read compare equal."""
    return json.loads(json.dumps(value, default=json_value))


def read_attrs(path: Path) -> dict[str, Any]:
    """Root attributes of the store at `path`; JaxsegError where that is something else."""
    try:
        attrs = json_of(path / "zarr.json")["attributes"]
        if attrs[_MARK] == _FORMAT:
            return attrs
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError):
        pass
    what = "is not an explanation store of this version" if path.exists() else "does not exist"
    raise JaxsegError(f"{path} {what}; name a folder made by a sweep, or a new one for a sweep")


def set_attribute(path: Path, name: str, value: Any) -> dict[str, Any]:
    """Set a root attribute of the store at `path`; all of them."""
    root = zarr.open_group(str(path), mode="r+", zarr_format=3, use_consolidated=False)
    root.attrs[name] = plain(value)
    return read_attrs(path)


def open_table(path: Path, name: str, row_dim: str, mode: str, rank: int) -> Table:
    """The table in group `name` of the store at `path`; JaxsegError where its plan is not whole."""
    needed = _COLUMNS[row_dim] | {*SIZES[rank]}
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
        raise _damaged(path, name, needed) from None
    if missing := needed - table.columns.keys():
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
    entries: Sequence[Entry],
    plan: Plan,
    config: Mapping[str, Any],
    attrs: Mapping[str, Any],
    rank: int,
) -> None:
    """Write an empty store with its plan; `path` appears only when it is complete."""
    check_plan(entries, plan)
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    root = zarr.create_group(
        str(partial),
        zarr_format=3,
        attributes=plain(attrs)
        | {_MARK: _FORMAT, "config": plain(config), "explainers": list(plan), "rank": rank},
    )
    ids = np.array(image_ids(plan), object)
    images = Table(root.create_group("images"), "image", len(ids))
    images.add_column("id", ids, "")
    _add_sizes(images, rank)
    for entry in entries:
        # `parameters` is what the settings were called when labels were methods.
        attributes = {
            "method": entry.method,
            "parameters": plain(entry.settings),
            "meta": plain(entry.meta),
            "describe": plain(entry.describe),
        }
        group = root.create_group(entry.label, attributes=attributes)
        rows = plan[entry.label]
        table = Table(group, "explanation", len(rows))
        _add_plan(table, rows)
        _add_sizes(table, rank)
    consolidate(partial, ["images", *plan])
    if path.exists():
        path.rmdir()  # empty: `create` is called for nothing else
    partial.rename(path)


def entry_of(label: str, table: Table) -> Entry:
    """The entry of a group, as stored; in stores older than entries the label is the method."""
    return Entry(
        label=label,
        method=table.attrs.get("method", label),
        settings=table.attrs.get("parameters", {}),
        meta=table.attrs.get("meta", {}),
        describe=table.attrs.get("describe", {}),
    )


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


#: Values of a setting that does nothing: one that only one of two versions has changes nothing.
_OFF = (None, [], {}, "", "none", "native", False)


def check_same(
    path: Path,
    images: Table,
    tables: Mapping[str, Table],
    old_config: Mapping[str, Any],
    entries: Sequence[Entry],
    plan: Plan,
    config: Mapping[str, Any],
) -> None:
    """Raise a ConfigError that names what differs between the stored sweep and the asked one."""
    old, new = dict(_flat(old_config)), dict(_flat(plain(config)))
    changes = [
        f"{key} was {old.get(key, 'absent')}, is {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, "absent") != new.get(key, "absent")
        and not (key not in old and new[key] in _OFF)
        and not (key not in new and old[key] in _OFF)
    ]
    if list(plan) != list(tables):
        changes.append(f"entries were {', '.join(tables)}, are {', '.join(plan)}")
    for entry in [entry for entry in entries if entry.label in tables]:
        name, table, rows = entry.label, tables[entry.label], plan[entry.label]
        method = entry_of(name, table).method
        if method != entry.method:
            changes.append(f"{name} was {method}, is {entry.method}")
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


def _add_sizes(table: Table, rank: int) -> None:
    for name in SIZES[rank]:
        table.add_column(name, np.zeros(table.num_rows, np.int32), 0)


def _add_plan(table: Table, rows: Sequence[PlanRow]) -> None:
    for name in ("image_index", "class_index"):
        table.add_column(name, np.array([getattr(row, name) for row in rows], np.int32), -1)
    for name in ("region_name", "id"):
        table.add_column(name, np.array([getattr(row, name) for row in rows], object), "")
    # What is known of a row when it is finished; the settings as JSON.
    for name in ("reason", "run", "version", "settings"):
        table.add_column(name, np.full(len(rows), "", object), "")
    # CF's way to name the values of a flag, which xarray shows.
    table.add_column(
        "status",
        np.full(len(rows), PENDING, np.int8),
        PENDING,
        flag_values=[PENDING, *(int(status) for status in Status)],
        flag_meanings=" ".join(["pending", *(status.name.lower() for status in Status)]),
    )
