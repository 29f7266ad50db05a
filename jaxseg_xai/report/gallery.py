"""The report of a sweep: one HTML file that needs nothing else, not even a network."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import JaxsegError, MissingExtraError
from jaxseg_xai.core.types import Status
from jaxseg_xai.report import common, figures, panels
from jaxseg_xai.store.store import ExplanationStore

TEMPLATES = Path(__file__).parent / "templates"


def write_report(
    store: ExplanationStore, out_html: str | os.PathLike[str], *, max_items: int = 200
) -> Path:
    """Write figures, numbers and failures of a sweep to one HTML file.

    Args:
      store: an open store; pending rows are counted, not shown.
      out_html: the file to write; its folder is made if it is missing.
      max_items: at most so many figures (0.1 to 0.4 MB and 0.3 s each). With more rows, evenly
        spaced ones of each explainer are shown and the report says how many are left out.

    Returns:
      The path of the report.

    Raises:
      MissingExtraError: without the extra `report`.
      JaxsegError: `out_html` cannot be written.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("Writing a report", "report") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        # Always on: names of images and classes are data, whatever the template is called.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows, num_done = _choose(store, max_items)
    known = ("config", "versions", "seed", "class_names", "explainers", "jaxseg_xai_store")
    further = {name: value for name, value in store.attrs.items() if name not in known}
    html = environment.get_template("gallery.html.j2").render(
        title=store.path.name,
        config=_json(store.attrs["config"]),
        versions=store.attrs.get("versions", {}),
        seed=store.attrs.get("seed"),
        further=_json(further) if further else None,
        summaries=[_summary(store, name) for name in store.explainers],
        cards=[_card(store, name, row) for name, row in rows],
        num_done=num_done,
        failures=_failures(store),
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


def _choose(store: ExplanationStore, max_items: int) -> tuple[list[tuple[str, int]], int]:
    """Rows to show, evenly spaced over all that are done, and how many are done."""
    done = [
        (name, int(row))
        for name in store.explainers
        for row in np.flatnonzero(store.statuses(name) >= 0)
    ]
    number = min(max_items, len(done))
    # Midpoints of equal stretches: the first and the last row are not favoured.
    picks = ((np.arange(number) + 0.5) * len(done) / max(number, 1)).astype(int)
    return [done[pick] for pick in picks], len(done)


def _summary(store: ExplanationStore, explainer: str) -> dict[str, Any]:
    """Counts by status, and mean and median of every score over the rows with status OK."""
    good = store.statuses(explainer) == Status.OK
    parameters = store.parameters(explainer)
    scores = {}
    for name, values in sorted(store.scores(explainer).items()):
        values = values[good & np.isfinite(values)].astype(np.float64)
        if values.size:
            scores[name] = (values.mean(), float(np.median(values)), values.size)
    return {
        "name": explainer,
        "counts": store.counts()[explainer],
        "num_rows": store.num_rows(explainer),
        "scores": scores,
        "parameters": _json(parameters) if parameters else None,
    }


def _card(store: ExplanationStore, explainer: str, row: int) -> dict[str, Any]:
    stored = store.read(explainer, row)
    assert stored.status is not None
    image = store.read_image(stored.plan.image_index)
    figure = figures.draw(stored, image, store.class_names, store.parameters(explainer))
    png = panels.to_png(figure)
    scores = {n: v for n, v in sorted(stored.scores.items()) if np.isfinite(v)}
    class_name = common.class_name(stored.plan.class_index, store.class_names)
    return {
        "explainer": explainer,
        "row": row,
        "image_id": stored.plan.image_id,
        "class_name": class_name,
        "region": stored.plan.region_name,
        "status": stored.status.name,
        "note": " ".join(filter(None, (common.STATUS_NOTES[stored.status], stored.reason))),
        "scores": scores,
        "scores_json": json.dumps(scores),
        "png": base64.b64encode(png).decode("ascii"),
        "size": [round(float(80 * inches)) for inches in figure.get_size_inches()],
    }


def _failures(store: ExplanationStore) -> list[dict[str, Any]]:
    """Every row that failed, with its reason."""
    failures = []
    for name in store.explainers:
        for row in np.flatnonzero(store.statuses(name) == Status.FAILED):
            plan, reason = store.plan_row(name, int(row)), store.reason(name, int(row))
            failures.append({"explainer": name, "row": int(row), "plan": plan, "reason": reason})
    return failures


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
