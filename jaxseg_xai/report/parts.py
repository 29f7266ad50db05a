"""The picture of a model: which of its parts carry a class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.parts.table import ComponentTable
from jaxseg_xai.report import overlays, panels
from jaxseg_xai.report.overlays import BLUE, RED
from jaxseg_xai.report.record import Record
from jaxseg_xai.store import Entry, Store, StoredExplanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Inches per row.
_ROW = 0.23
#: Statuses of images that do not have the class, or cannot be explained.
_NOTHING = (Status.EMPTY_TARGET, Status.EMPTY_REGION, Status.EMPTY_IMAGE, Status.FAILED)


def parts_figure(record: Record) -> "Figure":
    """The parts of the network, by their effects on one image."""
    table = table_of([record.stored], record.entry)
    title = f"The parts that carry {record.class_name} in {record.image_id}"
    return components_figure(table, title, unit=record.unit)


def table_of(found: Sequence[StoredExplanation], entry: Entry) -> ComponentTable:
    """The effects on several images, of rows of one entry.

    Args:
      found: rows of one class; those that are not OK do not count.
      entry: theirs; it names the parts.

    Raises:
      DataError: the entry names other parts than those that the rows are about.
    """
    nothing = np.full(len(entry.describe["names"]), np.nan, np.float32)
    return ComponentTable.of_results(
        entry.describe,
        statuses=[-1 if one.row.status is None else int(one.row.status) for one in found],
        base=[one.row.scores.get("base_outcome", np.nan) for one in found],
        traces={
            name: np.stack([one.traces.get(name, nothing) for one in found])
            for name in ("ate", "standard_error", "first_order")
        },
    )


def tables_of(store: Store, label: str) -> dict[str, ComponentTable]:
    """Name of a class -> the table of its images; classes that no image has are left out."""
    of_class: dict[int, list[StoredExplanation]] = {}
    for row in store.rows(label, done_only=True):
        if row.status not in _NOTHING:
            of_class.setdefault(row.class_index, []).append(store.read(row))
    entry = store.entry(label)
    return {
        class_name(index, store.class_names): table_of(rows, entry)
        for index, rows in of_class.items()
    }


def components_figure(
    table: ComponentTable, title: str, *, first_order: bool = False, unit: str = "points"
) -> "Figure":
    """Bars for layers and skip connections, and a strip of channels beside each layer.

    Args:
      table: of one class on one image or more.
      title: what is explained, in which model.
      first_order: draw the first-order estimates instead of the exact effects. (Channels that were
        not intervened on are drawn as estimates in any case; the caption says so.)
      unit: of the effects.
    """
    effects = table.mean_first_order if first_order else table.ate
    errors = np.zeros_like(effects) if first_order else np.nan_to_num(table.standard_error)
    whole = [i for i, kind in enumerate(table.kinds) if kind != "channel"]
    layers = [i for i in whole if table.kinds[i] == "layer"]
    cells = np.array([kind == "channel" for kind in table.kinds], bool)
    estimated = not first_order and bool(cells.any()) and bool(np.isnan(effects[cells]).all())
    channels = table.mean_first_order if estimated else effects
    figure, axes = panels.new_figure(1, 2, 11.5, _ROW * len(whole) + 1.45)
    bars, strips = axes[0]
    bars.get_gridspec().set_width_ratios([1, 1.15])
    _show_bars(bars, table, whole, effects, errors, unit)
    _show_strips(strips, table, whole, layers, channels, unit)
    usable = table.base[np.isfinite(table.base)]
    base = f"{usable.mean():.1f}" if usable.size else "–"
    kind = "First-order estimate" if first_order else "Effect"
    note = " Channels: first-order estimates." if estimated else ""
    panels.caption(
        figure,
        f"{kind} of replacing a part's activation, mean of {usable.size} image(s); "
        f"outcome without it: {base} {unit}.{note}\n"
        "Red: the outcome falls (negative), so the part helps. Blue: it rises, so the part hurts.",
        "" if usable.size else "No image could be used: nothing to draw.",
    )
    if usable.size:
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def _show_bars(
    axes: "Axes",
    table: ComponentTable,
    whole: list[int],
    effects: np.ndarray,
    errors: np.ndarray,
    unit: str,
) -> None:
    """Layers in order from the image to the logits, then the skip connections."""
    rows = np.arange(len(whole))
    values = np.nan_to_num(effects[whole])
    axes.barh(
        rows,
        values,
        xerr=errors[whole],
        color=[RED if value < 0 else BLUE for value in values],
        error_kw={"lw": 0.8, "ecolor": "#444444"},
    )
    axes.set_yticks(rows, [table.names[i] for i in whole], fontsize=7.5, parse_math=False)
    axes.set_ylim(len(whole) - 0.5, -0.5)
    axes.axvline(0, color="black", lw=0.8)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(f"Whole layers and skip connections ({unit})", fontsize=9.5, parse_math=False)


def _show_strips(
    axes: "Axes",
    table: ComponentTable,
    whole: list[int],
    layers: list[int],
    effects: np.ndarray,
    unit: str,
) -> None:
    """One row per layer, its channels from the one that helps most to the one that hurts most."""
    strips = {}
    for i in layers:
        of_layer = [
            effects[j]
            for j, kind in enumerate(table.kinds)
            if kind == "channel" and table.names[j] == table.names[i]
        ]
        strips[i] = np.sort(of_layer)
    widest = max((len(strip) for strip in strips.values()), default=1)
    # The ends of the scale are open, since a few channels can outweigh the rest by far.
    limit = overlays.effect_limit(np.concatenate([np.zeros(1), *strips.values()]))
    scale = panels.colour_scale(-limit, limit, "RdBu")
    for row, i in enumerate(whole):
        if i not in strips or not np.isfinite(strips[i]).all():
            continue
        count = len(strips[i])
        # All strips as wide, whatever the number of channels, with the number written beside.
        axes.imshow(
            scale.to_rgba(strips[i])[None],
            extent=(0, widest, row + 0.4, row - 0.4),
            aspect="auto",
            interpolation="nearest",
        )
        axes.text(widest * 1.01, row, str(count), fontsize=7, va="center", color="#555555")
    axes.set(xlim=(0, widest * 1.06), ylim=(len(whole) - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title("Channels of each layer, sorted; their number at the right", fontsize=9.5)
    label = f"effect of one channel ({unit})"
    panels.colour_bar(axes, scale, label, height=_ROW * len(whole), extend="both")
