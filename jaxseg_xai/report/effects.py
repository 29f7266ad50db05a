"""The figure of signed effects: what happens to the outcome when blocks are replaced."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxseg_xai.report import overlays, panels, segments
from jaxseg_xai.report.overlays import BLUE, GREY, RED
from jaxseg_xai.report.record import Record
from jaxseg_xai.report.scales import scale_of
from jaxseg_xai.report.slices import pictures_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

BLACK = "#000000"
#: Sizes that part the bars of the histogram, in points; the method's threshold is one more.
_EDGES = (0.3, 1, 3)


def effects_figure(record: Record) -> "Figure":
    """What is explained, the effects of the blocks, and how many have which effect.

    An effect is outcome(replaced) - outcome(original): where it is negative (red) the block's own
    content helps, where it is positive (blue) the content hurts. A map `significant` is outlined in
    black, and a trace `histogram` drawn as bars.
    """
    pictures = pictures_of(record)
    shapes = [picture.attribution.shape for picture in pictures]
    counts = record.stored.traces.get("histogram", np.full(1, np.nan))
    has_counts = bool(np.isfinite(counts).any())  # all NaN: only other rows have one
    figure, rows, chart = panels.picture_grid(shapes, 2, text_height=0.7, chart=has_counts)
    colouring = scale_of(record)
    scale = panels.colour_scale(colouring.low, colouring.high, colouring.colours)
    title = record.title("attribution", "Red: content that helps\nblue: content that hurts")
    for (left, right), picture in zip(rows, pictures, strict=True):
        segments.show_image(left, picture, record)
        overlay = paint_effects(picture.image, picture.attribution, colouring.high, scale)
        panels.show(right, overlay, title)
        panels.outline(right, picture.maps.get("significant"), BLACK)
        for panel in (left, right):
            panels.outline(panel, picture.region, overlays.GREEN)
    # One scale for all rows; its ends are open, since a few blocks can outweigh the rest by far.
    label = f"change of {record.outcome} if replaced ({record.unit})"
    panels.colour_bar(rows[-1][1], scale, label, extend="both")
    if chart is not None:
        _show_histogram(chart, np.nan_to_num(counts), record)
    panels.name_rows(rows, [picture.name for picture in pictures])
    panels.caption(figure, record.caption, record.warning)
    return figure


def paint_effects(
    image: np.ndarray, effects: np.ndarray, limit: float, scale: "ScalarMappable"
) -> np.ndarray:
    """Effects [H, W] over an image uint8 [H, W, 3], which turns grey; the larger, the denser."""
    opacity = np.where(effects == 0, 0, 0.25 + 0.6 * np.clip(np.abs(effects) / limit, 0, 1))
    painted = scale.to_rgba(effects)[:, :, :3] * 255
    return overlays.blend(overlays.to_grey(image), painted, opacity)


def bin_labels(threshold: float | None) -> list[str]:
    """The nine bins of the histogram, from the blocks that help most to those that hurt most.

    Args:
      threshold: below it an effect is none; "t" where nobody knows.
    """
    if threshold is None:
        positive = ["t", *map(str, _EDGES)]
    else:
        positive = [f"{edge:g}" for edge in sorted([threshold, *_EDGES])]
    edges = [f"−{edge}" for edge in reversed(positive)] + positive
    labels = [f"< {edges[0]}", *(f"{a} … {b}" for a, b in itertools.pairwise(edges))]
    labels.append(f"> {edges[-1]}")
    labels[len(positive)] = "no effect"
    return labels


def _show_histogram(axes: "Axes", counts: np.ndarray, record: Record) -> None:
    """Blocks by size of their effect, and the shares that help, do nothing and hurt."""
    labels = bin_labels(record.entry.settings.get("threshold"))
    show_bins(axes, labels, counts, [f"{count:.0f}" for count in counts])
    kinds = {"help": "num_negative", "none": "num_zero", "hurt": "num_positive"}
    numbers = {kind: record.stored.row.scores.get(score, np.nan) for kind, score in kinds.items()}
    total = sum(numbers.values()) or np.nan
    shares = [f"{_percent(number / total)} {kind}" for kind, number in numbers.items()]
    title = f"Blocks by effect ({record.unit})\n" + "  ·  ".join(shares)
    axes.set_title(title, fontsize=9.5, loc="right", parse_math=False)


def show_bins(
    axes: "Axes", labels: Sequence[str], values: np.ndarray, words: Sequence[str]
) -> None:
    """Bars of the histogram's bins, the ones that help above, with words at their ends."""
    side = len(labels) // 2
    bars = axes.barh(labels, values, color=[RED] * side + [GREY] + [BLUE] * side)
    axes.bar_label(bars, words, fontsize=7.5, padding=2)
    axes.set_xlim(0, max(values.max(), 1) * 1.18)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.tick_params(labelsize=7.5, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _percent(share: float) -> str:
    return f"{share:.0%}" if np.isfinite(share) else "–"
