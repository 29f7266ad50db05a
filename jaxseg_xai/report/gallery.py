"""The report of a sweep: one HTML file that needs nothing else, not even a network."""

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.types import Status
from jaxseg_xai.report import figures, panels
from jaxseg_xai.report.pages import templates
from jaxseg_xai.report.record import meta_of, warning_of
from jaxseg_xai.store import Row, Store

TEMPLATES = Path(__file__).parent / "templates"
#: Attributes of a store that have a place of their own in the report, or describe its format.
_KNOWN = ("config", "versions", "seed", "class_names", "explainers", "rank", "jaxseg_xai_store")


def write_report(store: Store, out_html: str | os.PathLike[str], *, max_items: int = 200) -> Path:
    """Write figures, numbers and failures of a sweep to one HTML file.

    Args:
      store: an open store; rows that are pending or of empty images are counted, not shown.
      out_html: the file to write; its folder is made if it is missing.
      max_items: at most so many figures (0.1 to 0.4 MB and 0.3 s each). With more rows, evenly
        spaced ones of each label are shown and the report says how many are left out.

    Returns:
      The path of the report.

    Raises:
      MissingExtraError: without the extra `report`.
      JaxsegError: `out_html` cannot be written.
    """
    done = store.rows(done_only=True)
    shown = [row for row in done if row.status is not Status.EMPTY_IMAGE]
    further = {name: value for name, value in store.attrs.items() if name not in _KNOWN}
    html = (
        templates(TEMPLATES)
        .get_template("gallery.html.j2")
        .render(
            title=store.name,
            config=_json(store.attrs.get("config", {})),
            versions=store.attrs.get("versions", {}),
            seed=store.attrs.get("seed"),
            further=_json(further) if further else None,
            runs=_runs(done),
            summaries=[_summary(store, label) for label in store.labels],
            cards=[_card(store, row) for row in _choose(shown, max_items)],
            num_done=len(shown),
            failures=[row for row in done if row.status == Status.FAILED],
        )
    )
    out_html = Path(out_html)
    try:
        out_html.parent.mkdir(parents=True, exist_ok=True)
        out_html.write_text(html, encoding="utf-8")
    except OSError as error:
        raise JaxsegError(
            f"{out_html}: cannot write the report ({error.strerror}); choose another path"
        ) from error
    return out_html


def _choose(done: Sequence[Row], max_items: int) -> list[Row]:
    """Rows to show, evenly spaced over all that are done."""
    number = min(max_items, len(done))
    # Midpoints of equal stretches: the first and the last row are not favoured.
    picks = ((np.arange(number) + 0.5) * len(done) / max(number, 1)).astype(int)
    return [done[pick] for pick in picks]


def _runs(done: Sequence[Row]) -> list[tuple[str, str, int]]:
    """Name of a run, version of the package, and how many rows it computed; in order."""
    counts: dict[tuple[str, str], int] = {}
    for row in done:
        if row.run or row.version:
            counts[row.run, row.version] = counts.get((row.run, row.version), 0) + 1
    return [(run, version, count) for (run, version), count in counts.items()]


def _summary(store: Store, label: str) -> dict[str, Any]:
    """Counts by status, and mean and median of every score over the rows with status OK."""
    rows, entry = store.rows(label), store.entry(label)
    good = [row.scores for row in rows if row.status == Status.OK]
    scores = {}
    for name in sorted({name for found in good for name in found}):
        values = np.array([found.get(name, np.nan) for found in good], np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            meaning = meta_of(entry).scores.get(name, "")
            scores[name] = (values.mean(), float(np.median(values)), values.size, meaning)
    return {
        "name": label if label == entry.method else f"{label} ({entry.method})",
        "counts": store.counts()[label],
        "num_rows": len(rows),
        "scores": scores,
        "settings": _json(entry.settings) if entry.settings else None,
    }


def _card(store: Store, row: Row) -> dict[str, Any]:
    assert row.status is not None
    figure = figures.draw_row(store, row)
    scores = {name: value for name, value in sorted(row.scores.items()) if np.isfinite(value)}
    return {
        "label": row.label,
        "row": row.number,
        "image_id": row.image_id,
        "class_name": class_name(row.class_index, store.class_names),
        "region": row.region_name,
        "run": row.run,
        "version": row.version,
        "status": row.status.name,
        "note": warning_of(row),
        "scores": scores,
        "scores_json": json.dumps(scores),
        "png": base64.b64encode(panels.to_png(figure)).decode("ascii"),
        "size": [round(float(80 * inches)) for inches in figure.get_size_inches()],
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
