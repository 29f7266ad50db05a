"""The pictures of a report: ratios, scaling, roofline; each a PNG."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness.record import Record, Row
from jaxseg_xai.report.panels import new_figure, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {
    "original": "#c4673a",
    "tuned": "#2f6d9e",
    "captum": "#5b8c5a",
    "compiled": "#8a5aa8",
    "graphs": "#b08a1e",
    "autotuned": "#4a4a4a",
}
#: Of the scaling: table and its column along x, column along y, title.
_PANELS = (
    ("devices", "seconds", "Time over devices"),
    ("devices", "efficiency", "Time on 1 device / (n x time on n)"),
    ("lanes", "per_second", "Throughput over lanes"),
    ("size", "seconds", "Time over image size, 1 lane a device"),
    ("blocks", "seconds", "Time of the ATE over its blocks"),
    ("lanes", "program_bytes", "Memory of a device's program over lanes"),
)


def pictures(records: Sequence[Record]) -> dict[str, bytes]:
    """Title -> PNG of everything in the records that can be drawn."""
    drawn: dict[str, bytes] = {}
    with_peers = [record for record in records if record.ratios]
    if with_peers:
        drawn["PyTorch's time over ours"] = to_png(ratios(with_peers))
    for number, record in enumerate(r for r in records if "devices" in r.series):
        suffix = f" ({number + 1})" if number else ""
        drawn[f"Scaling on {record.machine.device_kind}{suffix}"] = to_png(scaling(record))
        if record.series["roofline"]:
            drawn[f"Roofline of {record.machine.device_kind}{suffix}"] = to_png(roofline(record))
    return drawn


def ratios(records: Sequence[Record]) -> "Figure":
    """A bar for each peer of each case; right of the line we are faster."""
    figure, [[axes]] = new_figure(1, 1, 7.5, 1.2 + 0.55 * len(records))
    for name, colour in _COLOURS.items():
        found = [
            (place + 0.26 * (list(record.ratios).index(name) - 1), record.ratios[name])
            for place, record in enumerate(records)
            if name in record.ratios
        ]
        if found:
            places, values = np.array(found).T
            bars = axes.barh(places, values - 1, 0.25, left=1, color=colour, label=name)
            axes.bar_label(bars, [f" {value:.3g}x" for value in values], fontsize=8)
    axes.set_yticks(range(len(records)), [_label(record) for record in records], fontsize=8.5)
    axes.invert_yaxis()
    _log(axes.xaxis, axes.set_xscale)
    all_ratios = [ratio for record in records for ratio in record.ratios.values()]
    axes.set_xlim(min(0.5, min(all_ratios) / 1.5), max(2, max(all_ratios) * 2))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("PyTorch's median time over ours, same work, same run (log scale)")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def scaling(record: Record) -> "Figure":
    """Time over devices, size and blocks; efficiency; throughput over lanes; memory."""
    figure, grid = new_figure(2, 3, 12, 6.6)
    for axes, (x, y, title) in zip(grid.ravel(), _PANELS, strict=True):
        for name, rows in _programs(record.series[x]).items():
            errors = _column(rows, "spread") if y == "seconds" else None
            axes.errorbar(_column(rows, x), _column(rows, y), errors, fmt="o-", label=name)
        _axes(axes, title, x, y.replace("_", " "))
        if y != "seconds":
            axes.set_yscale("linear")
            axes.set_ylim(bottom=0)
    return figure


def roofline(record: Record) -> "Figure":
    """Achieved FLOP/s against arithmetic intensity, under the roof that the machine measured."""
    figure, [[axes]] = new_figure(1, 1, 7.5, 4.6)
    rows, machine = record.series["roofline"], record.machine
    dtype = str(record.settings["dtype"])
    peak = machine.gemm_flops.get(dtype, machine.gemm_flops["float32"])
    places = _column(rows, "intensity")
    ridge = peak / machine.bandwidth
    x = np.geomspace(min(places.min(), ridge) / 4, max(places.max(), ridge) * 8, 100)
    axes.plot(x, np.minimum(peak, machine.bandwidth * x) / 1e9, "k-", linewidth=1.2)
    text = f"GEMM peak {peak / 1e9:.3g} GFLOP/s"
    axes.annotate(text, (x[-1], peak / 1e9), ha="right", va="bottom", fontsize=8)
    text = f"  {machine.bandwidth / 1e9:.3g} GB/s"
    axes.annotate(text, (x[8], machine.bandwidth * x[8] / 1e9), ha="left", va="top", fontsize=8)
    for row, place, height in zip(rows, places, _column(rows, "flops_per_second"), strict=True):
        axes.plot(place, height / 1e9, "o", label=str(row["program"]))
    axes.margins(y=0.15)
    bytes_of = "FLOPs per byte of the compiled program"
    _axes(axes, _label(record), bytes_of, "GFLOP/s")
    return figure


def _programs(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by their program; the ATE's are all of one."""
    names = dict.fromkeys(str(row.get("program", "ATE")) for row in rows)
    return {name: [row for row in rows if row.get("program", name) == name] for name in names}


def _axes(axes: "Axes", title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=9.5)
    axes.set_xlabel(x, fontsize=8.5)
    axes.set_ylabel(y, fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _log(axes.xaxis, axes.set_xscale)
    _log(axes.yaxis, axes.set_yscale)


def _log(axis: Any, set_scale: Callable[[str], None]) -> None:
    """Logarithmic, with 1, 2 and 5 of every decade written as plain numbers."""
    set_scale("log")
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
    axis.set_tick_params(which="minor", labelsize=8)


def _column(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], float)


def _label(record: Record) -> str:
    side, dtype = record.settings["size"], record.settings["dtype"]
    return f"{record.case}, {side}x{side}" + ("" if dtype == "float32" else f", {dtype}")
