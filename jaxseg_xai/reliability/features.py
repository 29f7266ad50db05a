"""From the store of a sweep to a table: numbers of each explanation, and its true Dice.

No feature looks at ground truth: all are there for unlabelled images too.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.fields import idle_fields
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.reliability.table import FeatureTable, Omitted, Origin
from jaxseg_xai.reliability.truth import true_dice
from jaxseg_xai.store import Entry, Row, Store, ZarrStore

#: Statuses whose scores are defined.
_USABLE = (Status.OK, Status.NOT_REACHED)


def read_features(path: Path, labels: Sequence[str] = ()) -> FeatureTable:
    """The features of a sweep; an unfinished one gives those that are there.

    Args:
      path: the store.
      labels: to take features of; where empty, all of methods whose scores describe a whole
        predicted segment (`Meta.features`).

    Raises:
      ConfigError: a label of a method whose scores do not.
      DataError: the sweep has no results of a label, or of any such method.
      JaxsegError: not a store.
    """
    store = ZarrStore.open(path)
    if missing := [label for label in labels if label not in store.labels]:
        raise DataError(
            f"{path}: the sweep has no {', '.join(missing)} results, only "
            f"{', '.join(store.labels)}; sweep with --explain {' '.join(labels)}"
        )
    metas = {label: _meta_of(store.entry(label)) for label in store.labels}
    # Measures of confidence last: the others are compared with them.
    usable = [label for label, meta in metas.items() if meta.get("features")]
    usable.sort(key=lambda label: bool(metas[label].get("sureness")))
    if wrong := [label for label in labels if label not in usable]:
        there = f"there are {', '.join(usable)}" if usable else "nor of any other result"
        raise ConfigError(f"{path}: no features of {', '.join(wrong)}; {there}")
    if not usable:
        methods = [name for name, cls in EXPLAINERS.usable() if cls.meta.features]
        raise DataError(
            f"{path}: no result describes a whole segment, there is only {', '.join(store.labels)};"
            f" sweep with --explain and one or more of {', '.join(methods)}"
        )
    labels = tuple(labels) or tuple(usable)
    # What is explained under all of the labels -> its row under each.
    rows: dict[str, list[Row]] = {}
    for label in labels:
        for row in store.rows(label):
            rows.setdefault(row.id, []).append(row)
    together = [found for found in rows.values() if len(found) == len(labels)]
    if rows and not together:
        raise DataError(
            f"{path}: {' and '.join(labels)} never explain the same class in the same region of an "
            "image; choose labels that do"
        )
    kept, omitted = [], []
    for found in together:
        bad = next((row for row in found if row.status not in _USABLE), None)
        if bad is None:
            kept.append(found)
            continue
        why = "PENDING" if bad.status is None else bad.status.name
        name = class_name(bad.class_index, store.class_names)
        omitted.append(Omitted(image_id=bad.image_id, class_name=name, why=why))
    first = [found[0] for found in kept]
    names, values = _values(labels, kept)
    return FeatureTable(
        image_ids=np.array([row.image_id for row in first], str),
        class_names=np.array([class_name(r.class_index, store.class_names) for r in first], str),
        statuses=np.array([row.status.name for row in first if row.status is not None], str),
        names=names,
        values=values,
        true_dice=true_dice(store, first),
        sureness=_sureness(names, metas),
        origin=_origin(store, labels),
        omitted=tuple(omitted),
    )


def _meta_of(entry: Entry) -> dict[str, Any]:
    """What is known of the method; older stores do not say all of it themselves."""
    known = entry.method in EXPLAINERS
    usual = dataclasses.asdict(EXPLAINERS.get(entry.method).meta) if known else {}
    return usual | dict(entry.meta)


def _sureness(names: Sequence[str], metas: dict[str, dict[str, Any]]) -> dict[str, int]:
    """ "label.score" -> the sign by which it tells how sure the model is, of those that do."""
    found = {}
    for name in names:
        label, _, score = name.partition(".")
        if sign := metas[label].get("sureness", {}).get(score):
            found[name] = sign
    return found


def _values(
    labels: Sequence[str], rows: Sequence[Sequence[Row]]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the features "label.score", and their values [N, F]; NaN where not defined."""
    names, columns = [], []
    for place, label in enumerate(labels):
        scores = [found[place].scores for found in rows]
        for name in sorted({name for of_row in scores for name in of_row}):
            names.append(f"{label}.{name}")
            columns.append([of_row.get(name, np.nan) for of_row in scores])
    values = np.array(columns, np.float64).T.reshape(len(rows), len(names))
    return tuple(names), np.where(np.isfinite(values), values, np.nan)


def _origin(store: Store, labels: Iterable[str]) -> Origin:
    config = store.attrs["config"]
    return Origin(
        model=str(store.attrs.get("model", "")),
        weights_checksum=int(config.get("weights_checksum", 0)),
        class_names=store.class_names,
        dtype=str(config.get("dtype", "")),
        pad=str(config.get("pad", "")),
        sizes=str(config.get("data", {}).get("sizes", "native")),
        settings={label: _settings_of(store.entry(label)) for label in labels},
    )


def _settings_of(entry: Entry) -> dict[str, Any]:
    """Method, revision and the settings that change its numbers, as JSON values."""
    known = entry.method in EXPLAINERS
    idle = idle_fields(EXPLAINERS.get(entry.method)) if known else ()
    settings = {name: value for name, value in entry.settings.items() if name not in idle}
    found = {"method": entry.method, "revision": entry.meta.get("revision", 1)} | settings
    return json.loads(json.dumps(found))
