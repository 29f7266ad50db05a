"""The pictures of a report: ratios, scaling, roofline; each a PNG."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness.record import Record, Row
from jaxseg_xai.core.errors import MissingExtraError
from jaxseg_xai.report.panels import to_png

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
    figure, [[axes]] = _figure(1, 1, 7.5, 1.2 + 0.55 * len(records))
    for place, record in enumerate(records):
        high = 0.76 / max(2, len(record.ratios))
        for bar, (name, ratio) in enumerate(record.ratios.items()):
            y = place + (bar - (len(record.ratios) - 1) / 2) * high
            axes.barh(y, ratio - 1, 0.95 * high, left=1, color=_COLOURS[name])
            axes.annotate(f" {ratio:.3g}x", (ratio, y), va="center", fontsize=8)
    axes.set_yticks(range(len(records)), [_label(record) for record in records], fontsize=8.5)
    axes.invert_yaxis()
    _log(axes.xaxis, axes.set_xscale)
    all_ratios = [ratio for record in records for ratio in record.ratios.values()]
    axes.set_xlim(min(0.5, min(all_ratios) / 1.5), max(2, max(all_ratios) * 2))
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("PyTorch's median time over ours, same work, same run (log scale)")
    shown = {name: c for name, c in _COLOURS.items() if any(name in r.ratios for r in records)}
    handles = [axes.barh(0, 0, color=colour, label=name) for name, colour in shown.items()]
    axes.legend(handles=handles, fontsize=8, loc="lower right")
    return figure


def scaling(record: Record) -> "Figure":
    """Time over devices, size and blocks; efficiency; throughput over lanes; memory."""
    figure, grid = _figure(2, 3, 12, 6.6)
    time, efficiency, lanes, size, blocks, memory = grid.ravel()
    for name, rows in _programs(record.series["devices"]).items():
        count, seconds = _column(rows, "devices"), _column(rows, "seconds")
        line = time.errorbar(count, seconds, _column(rows, "spread"), fmt="o-", label=name)
        time.plot(count, seconds[0] / count, ":", color=line[0].get_color())
        efficiency.plot(count, _column(rows, "efficiency"), "o-", label=name)
    for axes in (time, efficiency):
        counts = sorted(set(_column(record.series["devices"], "devices")))
        axes.set_xticks(counts, [f"{n:.0f}" for n in counts])
    _axes(time, "Time over devices (dotted: ideal)", "devices", "seconds", log=True)
    _axes(efficiency, "Efficiency over devices", "devices", "time on 1 / (n x time on n)")
    efficiency.set_ylim(0, 1.15)
    efficiency.axhline(1, color="black", linewidth=0.6)
    full = {str(row["program"]): row["predicted_lanes"] for row in record.series["memory"]}
    for name, rows in _programs(record.series["lanes"]).items():
        lanes.plot(_column(rows, "lanes"), _column(rows, "per_second"), "o-", label=name)
        label = name if full.get(name) is None else f"{name}: full at about {full[name]:.0f} lanes"
        per_device = _column(rows, "lanes") / record.machine.num_devices
        memory.plot(per_device, _column(rows, "program_bytes") / 2**20, "o-", label=label)
    _axes(lanes, "Throughput over lanes", "lanes", "images/s")
    limit = record.machine.memory_bytes
    of = f" (of {limit / 2**30:.3g} GiB a device)" if limit else ""
    _axes(memory, f"Memory{of}", "lanes per device", "MiB per device")
    for axes, x, title, label in (
        (size, "size", "Time over image size, 1 lane a device", "side in pixels"),
        (blocks, "blocks", "Time of the ATE over its blocks", "blocks"),
    ):
        columns = [_column(record.series[x], name) for name in (x, "seconds", "spread")]
        axes.errorbar(*columns, fmt="o-")
        _axes(axes, title, label, "seconds", log=True)
    return figure


def roofline(record: Record) -> "Figure":
    """Achieved FLOP/s against arithmetic intensity, under the roof that the machine measured."""
    figure, [[axes]] = _figure(1, 1, 7.5, 4.6)
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
    _axes(axes, _label(record), bytes_of, "GFLOP/s", log=True)
    return figure


def _programs(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by their program."""
    names = dict.fromkeys(str(row["program"]) for row in rows)
    return {name: [row for row in rows if row["program"] == name] for name in names}


def _axes(axes: "Axes", title: str, x: str, y: str, *, log: bool = False) -> None:
    axes.set_title(title, fontsize=9.5)
    axes.set_xlabel(x, fontsize=8.5)
    axes.set_ylabel(y, fontsize=8.5)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8)
    if log:
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


def _figure(num_rows: int, num_columns: int, width: float, height: float) -> tuple["Figure", Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing the report", "report") from error
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)
