"""A judgement as files: a page in Markdown, and tables."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.report.tables import markdown_table, write_csv, write_parquet

if TYPE_CHECKING:
    from jaxseg_xai.judging.result import Judgement, Record

PAGE = "judgement.md"
#: Metrics beside each other.
_WIDE = 6
_LEGEND = (
    "Mean over images [95 % bootstrap interval over images]; arrows: higher or lower is better. "
    "**Bold**: the best, and what a paired test does not tell from it (Wilcoxon's signed-rank "
    "test, two-sided, p < 0.05 after Holm's correction for all pairs of methods). (n): only so "
    "many images have a value; of half of them or fewer nothing is bold. –: no value."
)


def write(judgement: "Judgement", folder: Path, *, parquet: bool) -> Path:
    """Write everything into a folder; see `Judgement.save`."""
    tables: dict[str, list[Record]] = {
        "table": judgement.table,
        "methods": judgement.methods,
        "pairs": judgement.pairs,
        "scores": judgement.scores,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            if rows:
                write_csv(folder / f"{name}.csv", rows)
                if parquet:
                    write_parquet(folder / f"{name}.parquet", rows)
        (folder / PAGE).write_text(markdown(judgement), encoding="utf-8")
    except OSError as error:
        raise JaxsegError(f"{folder}: cannot be written ({error.strerror})") from error
    return folder / PAGE


def markdown(judgement: "Judgement") -> str:
    """The page."""
    lines = [_LEGEND]
    for model in judgement.models:
        lines += ["", f"## {model}", ""]
        labels = [entry.label for entry in judgement.metrics]
        for first in range(0, len(labels), _WIDE):
            lines += [*_scores(judgement, model, labels[first : first + _WIDE]), ""]
        lines += _costs(judgement, model)
    if judgement.published:
        lines += ["", "## Published", "", *_published(judgement)]
    if judgement.notes:
        lines += ["", "## Not judged", "", *(f"- {note}" for note in judgement.notes)]
    return "\n".join(lines) + "\n"


def _scores(judgement: "Judgement", model: str, metrics: list[str]) -> list[str]:
    entries = {entry.label: entry.metric.meta for entry in judgement.metrics}
    again = {entry.label: entry.metric.num_explanations for entry in judgement.metrics}
    headlines = {
        (row["label"], row["metric"]): row
        for row in judgement.table
        if row["model"] == model and row["score"] == entries[row["metric"]].headline
    }
    best = {metric: judgement.best(model, metric) for metric in metrics}
    labels = judgement.labels(model)
    most = {m: max(headlines[label, m]["num_images"] for label in labels) for m in metrics}
    arrows = {"higher": "↑", "lower": "↓"}
    cost = {name: f", {n} explanations" if n else "" for name, n in again.items()}
    head = ["method", *(f"{name} {arrows[entries[name].better]}{cost[name]}" for name in metrics)]
    rows = []
    for label in labels:
        cells = [_cell(headlines[label, m], label in best[m], most[m]) for m in metrics]
        rows.append([label, *cells])
    return markdown_table(head, rows)


def _cell(row: "Record", bold: bool, most: int) -> str:
    if row["status"] != "ok":
        return row["status"]
    mean = f"**{row['mean']:.3g}**" if bold else f"{row['mean']:.3g}"
    some = f" ({row['num_images']})" if row["num_images"] < most else ""
    return f"{mean} [{_number(row['low'])}, {_number(row['high'])}]{some}"


def _costs(judgement: "Judgement", model: str) -> list[str]:
    head = ["method", "explanations", "seconds each", "model evaluations each"]
    rows = [
        [row["label"], row["statuses"], _number(row["seconds"]), _number(row["evaluations"])]
        for row in judgement.methods
        if row["model"] == model
    ]
    return markdown_table(head, rows)


def _published(judgement: "Judgement") -> list[str]:
    headlines = {entry.label: entry.metric.meta.headline for entry in judgement.metrics}
    here = {
        (row["model"], row["label"], row["metric"], row["score"]): row["mean"]
        for row in judgement.table
    }
    rows = []
    for one in judgement.published:
        score = one.score or headlines.get(one.metric, "")
        found = here.get((one.model, one.label, one.metric, score), math.nan)
        what = f"{one.model}, {one.label}, {one.metric} {score}".rstrip()
        rows.append([what, _number(one.value), _number(found), one.source])
    return markdown_table(["", "published", "here", "source"], rows)


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"
