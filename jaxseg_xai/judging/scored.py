"""Scores on disk, a line each, kept as soon as they are there: a killed run loses none of them."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxseg_xai.judging.entries import MetricEntry
from jaxseg_xai.store import Row

#: Name of a store, its entry, what is explained (`Row.id`), label of the metric.
Key = tuple[str, str, str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """What a metric says of one explanation.

    Attributes:
      scores: name -> value, NaN where it is not defined.
      curves: name -> values.
      seconds: its share of a batch that was scored by several metrics at once; None where compiling
        was a part of that.
    """

    scores: Mapping[str, float]
    curves: Mapping[str, list[float]]
    seconds: float | None


class ScoreFile:
    """JSON lines, each the score of one explanation by one metric; the last one of a key counts.

    A line also says which run made the explanation and which settings the metric had: scores of an
    explanation that was made anew, or of other settings, do not count.
    """

    def __init__(self, path: Path) -> None:
        """Read what is there; a line that was cut off counts as not written."""
        self.path = path
        self._found: dict[Key, tuple[str, Any, Scored]] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for line in text.splitlines():
            try:
                one = json.loads(line)
                if not one["run"]:  # of a store that was in memory
                    continue
                key = (one["store"], one["label"], one["id"], one["metric"])
                scored = Scored(
                    scores={name: _number(value) for name, value in one["scores"].items()},
                    curves={name: list(map(_number, v)) for name, v in one["curves"].items()},
                    seconds=one["seconds"],
                )
                self._found[key] = (one["run"], one["settings"], scored)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
        self._cut_off = bool(text) and not text.endswith("\n")

    def get(self, store: str, row: Row, entry: MetricEntry) -> Scored | None:
        """The score of an explanation, None where there is none that counts."""
        found = self._found.get((store, row.label, row.id, entry.label))
        if found is None or found[:2] != (row.run, entry.identity):
            return None
        return found[2]

    def add(self, store: str, entry: MetricEntry, scored: Iterable[tuple[Row, Scored]]) -> None:
        """Keep the scores of some explanations."""
        lines = ["\n"] if self._cut_off else []
        for row, one in scored:
            self._found[store, row.label, row.id, entry.label] = (row.run, entry.identity, one)
            record = {
                "store": store,
                "label": row.label,
                "id": row.id,
                "metric": entry.label,
                "run": row.run,
                "settings": entry.identity,
                "scores": {name: _plain(value) for name, value in one.scores.items()},
                "curves": {name: list(map(_plain, v)) for name, v in one.curves.items()},
                "seconds": one.seconds,
            }
            lines.append(json.dumps(record) + "\n")
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
        self._cut_off = False


def _plain(value: float) -> float | None:
    """As JSON has it: no NaN."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
