"""Building blocks of the figures: a grid of titled pictures, outlines, colour bars, PNG bytes.

Figures are made with the object-oriented API and the Agg canvas, so that drawing neither needs a
display nor touches pyplot's global state.
"""

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.core.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

PANEL = 2.7  # inches
_LINE = 0.19  # inches, of a caption
_LETTERS = 13.5  # per inch of a caption


def new_figure(
    num_rows: int, num_columns: int, width: float, height: float
) -> "tuple[Figure, Any]":
    """An empty figure of a size in inches, and its axes [rows, columns]."""
    figure = _empty(width, height)
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)


def picture_grid(
    shapes: Sequence[tuple[int, ...]],
    columns: int,
    *,
    text_height: float,
    wrap: int | None = None,
    chart: bool = False,
) -> "tuple[Figure, list[list[Axes]], Axes | None]":
    """An empty figure with a row of panels for each picture.

    Args:
      shapes: (H, W) of each picture: one of an image, three of the planes of a volume.
      columns: panels of each picture.
      text_height: inches left for what stands above and below the panels.
      wrap: a single picture's panels go on in another row after so many.
      chart: whether there is one more panel beside the pictures, over all rows.

    Returns:
      The figure; the panels of each picture; the chart's, or None.
    """
    wide = wrap if wrap and len(shapes) == 1 else columns
    num_rows = len(shapes) * columns // wide
    # Many panels beside each other are smaller, so that the figure still fits a page.
    panel = PANEL if wide <= 4 else 2.1
    aspects = [_aspect(shapes[row * wide // columns]) for row in range(num_rows)]
    # Titles over each row of an image's panels, but only once over a volume's.
    height = sum(panel * aspect for aspect in aspects)
    height += 0.45 * num_rows if len(shapes) == 1 else 0.3 + 0.05 * num_rows
    if chart:
        height = max(height, PANEL)  # its bars need room, however flat the pictures are
    figure = _empty(panel * (wide + chart), height + text_height)
    grid = figure.add_gridspec(num_rows, wide + chart, height_ratios=aspects)
    axes = [figure.add_subplot(grid[row, i]) for row in range(num_rows) for i in range(wide)]
    rows = [axes[i * columns : (i + 1) * columns] for i in range(len(shapes))]
    return figure, rows, figure.add_subplot(grid[:, -1]) if chart else None


def name_rows(rows: "Sequence[Sequence[Axes]]", names: Sequence[str]) -> None:
    """Names beside the rows of pictures; titles stand over the first row only."""
    for axes, name in zip(rows, names, strict=True):
        axes[0].set_ylabel(name, fontsize=8.5)
    for axes in rows[1:]:
        for panel in axes:
            panel.set_title("")


def show(axes: "Axes", picture: np.ndarray, title: str, **style: Any) -> "AxesImage":
    """Draw a picture without ticks, under a title."""
    axes.set_title(title, fontsize=9.5, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes.imshow(picture, interpolation="nearest", **style)


def colour_scale(low: float, high: float, colours: str) -> "ScalarMappable":
    """Colours of values from `low` to `high`, by the name of a colour map; for all panels alike."""
    from matplotlib.cm import ScalarMappable  # optional, and there if a figure is
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(low, high), colours)


def outline(axes: "Axes", mask: np.ndarray | None, colour: Any, width: float = 1.5) -> None:
    """Draw the boundary of a binary mask [H, W]; nothing for None, empty or full masks."""
    if mask is None or not mask.any() or mask.all():
        return
    # Padded, so that a mask that touches the border is closed there too.
    padded = np.pad(np.asarray(mask, np.float32), 1)
    y, x = (np.arange(size) - 1 for size in padded.shape)
    # A dark line under the coloured one is visible on any background.
    for thickness, line in ((width + min(1.3, width), "black"), (width, colour)):
        axes.contour(x, y, padded, levels=[0.5], colors=[line], linewidths=thickness)
    height, width = mask.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def colour_bar(
    axes: "Axes",
    scale: "ScalarMappable",
    label: str,
    *,
    height: float | None = None,
    **options: Any,
) -> None:
    """A colour bar as wide as the panel, under it (beside it, panels would differ in width).

    Args:
      axes: the panel.
      scale: the colours.
      label: under the bar.
      height: of the panel in inches; None if it is a picture, whose height is known.
      options: of `Figure.colorbar`.
    """
    figure: Any = axes.figure
    inch = 1 / (_height(axes) if height is None else height)
    place = axes.inset_axes((0, -0.18 * inch, 1, 0.11 * inch))
    bar = figure.colorbar(scale, cax=place, orientation="horizontal", **options)
    bar.ax.tick_params(labelsize=7.5)
    # As the panel's own label, below the bar: the layout makes room for that, not for an inset's.
    axes.set_xlabel(label, fontsize=8, labelpad=31, parse_math=False)


def caption(figure: "Figure", text: str, warning: str = "") -> None:
    """Lines under the panels that say what the numbers are; above them, in red, what is wrong.

    Long lines are broken, and the figure grows by what they need.
    """
    plain: Any = {"fontsize": 9, "linespacing": 1.4, "parse_math": False}
    width, height = figure.get_size_inches()
    text, warning = (_wrapped(words, int(width * _LETTERS)) for words in (text, warning))
    num_lines = sum(words.count("\n") + 1 for words in (text, warning) if words)
    figure.set_size_inches(width, height + _LINE * num_lines)
    figure.supxlabel(text, color="#222222", **plain)
    if warning:
        figure.suptitle(warning, color="#a4000f", **plain)


def to_png(figure: "Figure", dpi: int = 80) -> bytes:
    """The figure as PNG bytes."""
    buffer = io.BytesIO()
    # Without metadata: they hold a URL, and the same figure should give the same bytes.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def to_webp(figure: "Figure", dpi: int = 80) -> bytes:
    """The figure as WebP bytes: a fifth of PNG's, and the same to the eye."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="webp", dpi=dpi, pil_kwargs={"quality": 85})
    return buffer.getvalue()


def _empty(width: float, height: float) -> "Figure":
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing figures", "report") from error
    figure = Figure(figsize=(width, height), layout="compressed", facecolor="white")
    FigureCanvasAgg(figure)
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.08, h_pad=0.08)
    return figure


def _aspect(shape: tuple[int, ...]) -> float:
    """Height by width; strips of one pixel would leave no room for titles, or be a mile high."""
    return min(max(shape[0] / shape[1], 0.4), 2.5)


def _height(axes: "Axes") -> float:
    """Of the picture in a panel, in inches, about."""
    grid: Any = axes.get_gridspec()
    figure: Any = axes.figure
    rows, columns = axes.images[0].get_size()
    return (figure.get_figwidth() / grid.ncols - 0.25) * min(rows / columns, 2.5)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.fill(line, width) for line in text.split("\n")) if text else ""
