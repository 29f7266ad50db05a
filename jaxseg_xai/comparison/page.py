"""A comparison as files: tables, pictures, and the page that shows them."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.data.pdcr import bin_names
from jaxseg_xai.report.files import file_name
from jaxseg_xai.report.gallery import TEMPLATES
from jaxseg_xai.report.pages import templates
from jaxseg_xai.report.panels import to_png
from jaxseg_xai.report.parts import components_figure
from jaxseg_xai.report.tables import undefined, write_csv

if TYPE_CHECKING:
    from jaxseg_xai.comparison.result import Comparison, Record

PAGE = "comparison.html"


def write_page(comparison: "Comparison", folder: Path, *, max_items: int) -> Path:
    """Write everything into a folder; see `Comparison.save`."""
    pictures = draw(comparison, max_items)
    tables = tables_of(comparison)
    html = (
        templates(TEMPLATES)
        .get_template("comparison.html.j2")
        .render(
            comparison=comparison,
            bins=bin_names(f"{comparison.threshold:g}"),
            pictures={
                name: (base64.b64encode(png).decode("ascii"), alt)
                for name, (png, alt) in pictures.items()
            },
            tables=list(tables),
        )
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            write_csv(folder / f"{name}.csv", rows)
        (folder / "comparison.json").write_text(json.dumps(_plain(as_json(comparison)), indent=1))
        for name, (png, _) in pictures.items():
            (folder / f"{file_name(name)}.png").write_bytes(png)
        (folder / PAGE).write_text(html, encoding="utf-8")
    except OSError as error:
        raise JaxsegError(f"{folder}: cannot be written ({error.strerror})") from error
    return folder / PAGE


def draw(comparison: "Comparison", max_items: int) -> dict[str, tuple[bytes, str]]:
    """Name of a picture -> PNG bytes, and what it shows in words."""
    rank = comparison.models[0].maps[0].effects.ndim
    told = {"shares": "Shares of blocks of each model", "histogram": "Histogram of their effects"}
    if len(comparison.models) > 1:
        told["agreement"] = "Agreement of each two models"
    if max_items and rank == 2:
        told["maps"] = "Maps of the models side by side"
    found = {what: (comparison.plot(what, max_items=max_items), alt) for what, alt in told.items()}
    for model in comparison.models:
        for name, table in model.parts.items():
            title = f"{model.name}: the parts that carry {name}"
            found[f"parts-{model.name}-{name}"] = (components_figure(table, title), title)
    return {name: (to_png(figure, dpi=100), alt) for name, (figure, alt) in found.items()}


def tables_of(comparison: "Comparison") -> "dict[str, list[Record]]":
    """Name of a table -> its rows, those that are there."""
    bins = bin_names(f"{comparison.threshold:g}")
    found = {
        "models": [_with_bins(row, bins) for row in comparison.per_model],
        "maps": [_with_bins(row, bins) for row in comparison.per_map],
        "pairs": comparison.pairs,
        "pairs_per_map": comparison.pairs_per_map,
        "parts": comparison.parts,
        "part_shares": comparison.part_shares,
        "part_pairs": comparison.part_pairs,
    }
    return {name: rows for name, rows in found.items() if rows}


def as_json(comparison: "Comparison") -> dict[str, Any]:
    """All of a comparison but what is of single maps and parts."""
    return {
        "threshold": comparison.threshold,
        "unit": comparison.unit,
        "bins": bin_names(f"{comparison.threshold:g}"),
        "models": comparison.per_model,
        "pairs": comparison.pairs,
        "part_shares": comparison.part_shares,
        "part_pairs": comparison.part_pairs,
        "notes": list(comparison.notes),
    }


def _with_bins(row: "Record", bins: Sequence[str]) -> "Record":
    """The histogram as a column for each bin."""
    rest = {name: value for name, value in row.items() if name != "histogram"}
    return rest | dict(zip(bins, row["histogram"], strict=True))


def _plain(value: Any) -> Any:
    """As JSON has it: no NaN."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if undefined(value) else value
