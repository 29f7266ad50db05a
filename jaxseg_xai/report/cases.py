"""Cases: all explanations of one class in one image, which are looked at side by side."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.types import Status
from jaxseg_xai.report.record import meta_of
from jaxseg_xai.store import Row, Store


@dataclasses.dataclass(frozen=True)
class Case:
    """One class in one image.

    Attributes:
      image_id: name of the image.
      class_name: of the class.
      rows: its explanations that are done, in the order of the store's entries; several of an entry
        that explains several regions.
    """

    image_id: str
    class_name: str
    rows: Sequence[Row]


def cases_of(rows: Iterable[Row], class_names: Sequence[str]) -> list[Case]:
    """The cases among rows of a store, in their order; those of empty images are left out.

    Args:
      rows: of a store; those that are pending do not count.
      class_names: its classes.
    """
    found: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        case = found.setdefault((row.image_index, row.class_index), [])
        if row.status is not None and row.status is not Status.EMPTY_IMAGE:
            case.append(row)
    return [
        Case(case[0].image_id, class_name(class_index, class_names), case)
        for (_, class_index), case in found.items()
        if case
    ]


def choose(cases: Sequence[Case], max_items: int) -> list[Case]:
    """Cases with at most `max_items` explanations together, evenly spaced over all.

    Where even one has more, one is left with as many as may be.
    """
    total = sum(len(case.rows) for case in cases)
    number = min(len(cases), max_items * len(cases) // max(total, 1))
    while number > 1:
        # Midpoints of equal stretches: the first and the last case are not favoured.
        picks = ((np.arange(number) + 0.5) * len(cases) / number).astype(int)
        chosen = [cases[pick] for pick in picks]
        if sum(len(case.rows) for case in chosen) <= max_items:
            return chosen
        number -= 1
    if not cases or not max_items:
        return []
    middle = cases[len(cases) // 2]
    return [dataclasses.replace(middle, rows=middle.rows[:max_items])]


def index_of(store: Store, cases: Sequence[Case]) -> dict[str, Any]:
    """What the list of a gallery needs to know of all cases, as columns; JSON values.

    Returns:
      `images`, `classes` (places in `class_names`) of the cases; `labels`, of each entry its name,
      method, the meaning of its scores, and of its explanations `case`, `status` and `scores`.
    """
    class_names = sorted({case.class_name for case in cases})
    labels = {}
    for label in store.labels:
        entry = store.entry(label)
        meta = meta_of(entry)
        labels[label] = {
            "name": label,
            "method": entry.method,
            "meanings": dict(meta.scores),
            "case": [],
            "status": [],
            "scores": {},
        }
    for number, case in enumerate(cases):
        for row in case.rows:
            assert row.status is not None
            column = labels[row.label]
            column["case"].append(number)
            column["status"].append(row.status.name)
            for name, value in row.scores.items():
                column["scores"].setdefault(name, []).append(rounded(value))
    return {
        "images": [case.image_id for case in cases],
        "classes": [class_names.index(case.class_name) for case in cases],
        "class_names": class_names,
        "labels": list(labels.values()),
    }


def rounded(value: float) -> float | None:
    """A number as the page shows it; None where it is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
