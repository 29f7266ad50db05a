"""The picture of a model: which of its parts carry a class."""

from typing import TYPE_CHECKING

import numpy as np

from jaxseg_xai.explainers.parts.table import ComponentTable
from jaxseg_xai.report import panels
from jaxseg_xai.report.ate import BLUE, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Inches per row.
_ROW = 0.23


def components_figure(table: ComponentTable, title: str, *, first_order: bool = False) -> "Figure":
    """Bars for layers and skip connections, and a strip of channels beside each layer.

    Args:
      table: of one class on one image or more.
      title: what is explained, in which model.
      first_order: draw the first-order estimates instead of the exact effects. (Channels that were
        not intervened on are drawn as estimates in any case; the caption says so.)
    """
    effects = table.mean_first_order if first_order else table.ate
    errors = np.zeros_like(effects) if first_order else np.nan_to_num(table.standard_error)
    whole = [i for i, kind in enumerate(table.kinds) if kind != "channel"]
    layers = [i for i in whole if table.kinds[i] == "layer"]
    cells = np.array([kind == "channel" for kind in table.kinds], bool)
    estimated = not first_order and bool(cells.any()) and bool(np.isnan(effects[cells]).all())
    channels = table.mean_first_order if estimated else effects
    # A figure of two panels; its size is then that of the list of parts.
    figure, axes = panels.new_figure(1, 2, (1, 1), text_height=1.0)
    figure.set_size_inches(11.5, _ROW * len(whole) + 2.2)
    bars, strips = axes[0]
    bars.get_gridspec().set_width_ratios([1, 1.15])
    _show_bars(bars, table, whole, effects, errors)
    _show_strips(strips, table, whole, layers, channels)
    usable = table.base[np.isfinite(table.base)]
    base = f"{usable.mean():.1f}" if usable.size else "–"
    kind = "First-order estimate" if first_order else "Effect"
    note = " Channels: first-order estimates." if estimated else ""
    panels.caption(
        figure,
        f"{kind} of replacing a part's activation, mean of {usable.size} image(s); "
        f"outcome without it: {base} points.{note}\n"
        "Red: the outcome falls (negative), so the part helps. Blue: it rises, so the part hurts.",
        "" if usable.size else "No image could be used: nothing to draw.",
    )
    figure.suptitle(title, fontsize=11, parse_math=False) if usable.size else None
    return figure


def _show_bars(
    axes: "Axes", table: ComponentTable, whole: list[int], effects: np.ndarray, errors: np.ndarray
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
    axes.set_title("Whole layers and skip connections (points)", fontsize=9.5)


def _show_strips(
    axes: "Axes", table: ComponentTable, whole: list[int], layers: list[int], effects: np.ndarray
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
    found = np.concatenate([np.zeros(1), *strips.values()])
    found = np.abs(found[np.isfinite(found) & (found != 0)])
    # A few channels can outweigh the rest a hundredfold; the ends of the scale are open instead.
    limit = float(np.percentile(found, 98)) if found.size else 1.0
    # Imported here: matplotlib is optional, and new_figure has said so if it is absent.
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-limit, limit), "RdBu")
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
    inch = 1 / (_ROW * len(whole))  # in heights of the panel, about
    place = axes.inset_axes((0.2, -0.2 * inch, 0.55, 0.1 * inch))
    bar = axes.figure.colorbar(scale, cax=place, orientation="horizontal", extend="both")
    bar.ax.tick_params(labelsize=7.5)
    axes.set_xlabel("effect of one channel (points)", fontsize=8, labelpad=34)
