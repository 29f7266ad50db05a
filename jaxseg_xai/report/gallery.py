"""The gallery of a store: one page that looks at explanations, whole in a file or from a server."""

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import JaxsegError, MissingExtraError
from jaxseg_xai.core.types import Status
from jaxseg_xai.report import figures, panels
from jaxseg_xai.report.case_page import Limits, case_json, webp_url
from jaxseg_xai.report.cases import Case, cases_of, choose, index_of
from jaxseg_xai.report.pages import templates
from jaxseg_xai.report.record import meta_of
from jaxseg_xai.store import Entry, Row, Store

TEMPLATES = Path(__file__).parent / "templates"
#: Attributes of a store that have a place of their own in the page, or describe its format.
_KNOWN = ("config", "versions", "seed", "class_names", "explainers", "rank", "jaxseg_xai_store")
#: Of a file; a volume of 128 x 128 x 128 is whole.
IN_FILE = Limits(longest=320, voxels=2**21)
#: Colour maps that a scale may name, each as 256 colours.
_COLOUR_MAPS = ("RdBu", "RdBu_r", "inferno", "viridis", "magma")


def write_report(store: Store, out_html: str | os.PathLike[str], *, max_items: int = 200) -> Path:
    """Write pictures, numbers and failures of a sweep to one HTML file that needs nothing else.

    Args:
      store: an open store; rows that are pending or of empty images are counted, not shown.
      out_html: the file to write; its folder is made if it is missing.
      max_items: at most so many explanations (0.05 to 0.3 MB and 0.3 s each). Of more, cases
        (a class in an image, with all its explanations) evenly spaced are shown, and the page says
        how many explanations are left out; `jaxseg-xai serve` shows any number.

    Returns:
      The path of the page.

    Raises:
      MissingExtraError: without the extra `report`.
      JaxsegError: `out_html` cannot be written.
    """
    rows = store.rows()
    shown = choose(cases_of(rows, store.class_names), max_items)
    whole = [case_json(store, case, limits=IN_FILE, figure=_embedded(store)) for case in shown]
    html = gallery_html(store, rows, shown, embedded=whole)
    out_html = Path(out_html)
    try:
        out_html.parent.mkdir(parents=True, exist_ok=True)
        out_html.write_text(html, encoding="utf-8")
    except OSError as error:
        raise JaxsegError(
            f"{out_html}: cannot write the report ({error.strerror}); choose another path"
        ) from error
    return out_html


def gallery_html(
    store: Store, rows: Sequence[Row], cases: Sequence[Case], *, embedded: Sequence[Any] = ()
) -> str:
    """The page.

    Args:
      store: an open store.
      rows: all of its rows.
      cases: those in the list.
      embedded: what `case_json` says of each; empty where the page asks a server for it.
    """
    done = [row for row in rows if row.status is not None]
    further = {name: value for name, value in store.attrs.items() if name not in _KNOWN}
    return (
        templates(TEMPLATES)
        .get_template("gallery.html.j2")
        .render(
            title=store.name,
            index=index_of(store, cases) | {"colour_maps": colour_maps()},
            embedded=embedded,
            num_shown=sum(len(case.rows) for case in cases),
            num_done=sum(row.status is not Status.EMPTY_IMAGE for row in done),
            config=_json(store.attrs.get("config", {})),
            versions=store.attrs.get("versions", {}),
            seed=store.attrs.get("seed"),
            further=_json(further) if further else None,
            runs=_runs(done),
            summaries=_summaries(store, rows),
            failures=[row for row in done if row.status == Status.FAILED],
        )
    )


def figure_webp(store: Store, row: Row) -> bytes:
    """The figure of an explanation, for a page."""
    return panels.to_webp(figures.draw_row(store, row))


def colour_maps() -> dict[str, str]:
    """Name -> 256 colours, three bytes each, in base64."""
    try:
        from matplotlib import colormaps
    except ImportError as error:
        raise MissingExtraError("Drawing maps", "report") from error
    places = np.linspace(0, 1, 256)
    found = {}
    for name in _COLOUR_MAPS:
        colours = np.round(255 * colormaps[name](places)[:, :3]).astype(np.uint8)
        found[name] = base64.b64encode(colours.tobytes()).decode("ascii")
    return found


def _embedded(store: Store) -> Callable[[Row], str]:
    return lambda row: webp_url(figure_webp(store, row))


def _runs(done: Sequence[Row]) -> list[tuple[str, str, int]]:
    """Name of a run, version of the package, and how many rows it computed; in order."""
    counts: dict[tuple[str, str], int] = {}
    for row in done:
        if row.run or row.version:
            counts[row.run, row.version] = counts.get((row.run, row.version), 0) + 1
    return [(run, version, count) for (run, version), count in counts.items()]


def _summaries(store: Store, rows: Sequence[Row]) -> list[dict[str, Any]]:
    of_label: dict[str, list[Row]] = {label: [] for label in store.labels}
    for row in rows:
        of_label[row.label].append(row)
    counts = store.counts()
    return [_summary(store.entry(label), own, counts[label]) for label, own in of_label.items()]


def _summary(entry: Entry, rows: Sequence[Row], counts: Mapping[str, int]) -> dict[str, Any]:
    """Counts by status, and mean and median of every score over the rows with status OK."""
    label = entry.label
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
        "counts": counts,
        "num_rows": len(rows),
        "scores": scores,
        "settings": _json(entry.settings) if entry.settings else None,
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
