"""What differs between a stored sweep and the one that is asked for, and what of it must go.

A row is known by its image, its target, the weights, and the method with its settings and revision.
What differs in one entry touches its rows only: its table is made anew, and the others stay. What
all of them have in common makes another sweep, which is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.store.layout import create_table, entry_of, plain, plan_rows
from jaxseg_xai.store.place import Place
from jaxseg_xai.store.records import Entry, Plan
from jaxseg_xai.store.tables import Table, consolidate, open_group

#: Values of a setting that does nothing: one that only one of two versions has changes nothing.
_OFF = (None, [], {}, "", "none", "native", "full", False)
#: The part of a configuration that says what its entries are, by their labels.
_ENTRIES = "explain"


def changes_of(
    place: Place,
    images: Table,
    tables: Mapping[str, Table],
    old_config: Mapping[str, Any],
    entries: Sequence[Entry],
    plan: Plan,
    config: Mapping[str, Any],
) -> dict[str, list[str]]:
    """Label -> what of it is not as it is stored, of those that differ.

    Raises:
      ConfigError: something differs that no single entry says.
    """
    found: dict[str, list[str]] = {}
    other: list[str] = []
    for key, change in _differences(old_config, plain(config)):
        parts = key.split(".")
        label = parts[1] if parts[0] == _ENTRIES and len(parts) > 1 else None
        if label is None:
            other.append(change)
        elif label in tables and label in plan:
            found.setdefault(label, []).append(change)
    ids = images.column("id")
    for entry in entries:
        name, rows = entry.label, plan[entry.label]
        if name not in tables:
            found[name] = [f"{name} is new"]
        elif (method := entry_of(name, tables[name]).method) != entry.method:
            found.setdefault(name, []).append(f"{name} was {method}, is {entry.method}")
        if name in found:
            moved = [
                r.id for r in rows if list(ids[r.image_index : r.image_index + 1]) != [r.image_id]
            ]
            if moved:
                other.append(
                    f"{len(moved)} rows of {name} are of other images (the first is {moved[0]})"
                )
            continue
        if tables[name].num_rows != len(rows):
            other.append(f"{name} had {tables[name].num_rows} rows, has {len(rows)}")
            continue
        pairs = zip(plan_rows(images, tables[name]), rows, strict=True)
        moved = [(a.id, b.id) for a, b in pairs if a != b]
        if moved:
            first = " instead of ".join(reversed(moved[0]))
            other.append(f"{len(moved)} rows of {name} differ (the first is {first})")
    if other:
        raise another(place, other)
    return found


def another(place: Place, changes: Sequence[str], *, shared: bool = False) -> ConfigError:
    """Of a store that is not continued; `shared` where workers may be at the other sweep."""
    more = f"; and {len(changes) - 4} more" if len(changes) > 4 else ""
    remedy = "Choose another --out, or --overwrite to start again"
    if shared:
        remedy = "Workers share it: run it as it was to its end first, or choose another --out"
    return ConfigError(f"{place} holds another sweep: {'; '.join(changes[:4])}{more}. {remedy}")


def make_anew(
    place: Place,
    attrs: Mapping[str, Any],
    labels: Sequence[str],
    entries: Sequence[Entry],
    plan: Plan,
    config: Mapping[str, Any],
) -> None:
    """Empty the tables of some labels, with new settings; no journal holds rows of them.

    A process that is killed leaves a store that does not know these labels any longer: to the next
    one they are new.
    """
    old, new = attrs["config"], plain(config)
    kept = [label for label in attrs["explainers"] if label not in labels]
    of_kept = {k: v for k, v in old.get(_ENTRIES, {}).items() if k not in labels}
    known = _ENTRIES in old or _ENTRIES in new
    _say(place, kept, {**old, _ENTRIES: of_kept} if known else old)
    for entry in entries:
        if entry.label in labels:
            place.delete_all(entry.label)
            create_table(place, entry, plan[entry.label], attrs["rank"])
    consolidate(place, *labels)
    # In the order that a new store has, and after them what nobody asks for any longer.
    names = [*plan, *(label for label in kept if label not in plan)]
    _say(place, names, {**new, _ENTRIES: of_kept | new.get(_ENTRIES, {})} if known else new)


def _say(place: Place, labels: list[str], config: Mapping[str, Any]) -> None:
    root = open_group(place, "", "r+", consolidated=False)
    root.update_attributes({"explainers": labels, "config": dict(config)})
    consolidate(place, "")


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Key -> what it was and is."""
    a, b = dict(_flat(old)), dict(_flat(new))
    for key in sorted(a.keys() | b.keys()):
        was, now = a.get(key, "absent"), b.get(key, "absent")
        unsaid = (key not in a and now in _OFF) or (key not in b and was in _OFF)
        if was != now and not unsaid:
            yield key, f"{key} was {was}, is {now}"


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value
