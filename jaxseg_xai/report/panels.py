"""Building blocks of the figures: a grid of titled pictures, outlines, colour bars, PNG bytes.

Figures are made with the object-oriented API and the Agg canvas, so that drawing neither needs a
display nor touches pyplot's global state.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.core.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

PANEL = 2.7  # inches


def new_figure(
    num_rows: int, num_columns: int, shape: tuple[int, ...], *, text_height: float
) -> "tuple[Figure, Any]":
    """An empty figure of panels that fit images [H, W].

    Returns:
      The figure, with `text_height` inches left for what stands above and below the panels, and
      its axes [rows, columns].
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing figures", "report") from error
    # Strips of one pixel would make a figure too flat, or too tall, to carry its titles.
    aspect = min(max(shape[0] / shape[1], 0.4), 2.5)
    size = (PANEL * num_columns, (PANEL * aspect + 0.45) * num_rows + text_height)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.08, h_pad=0.08)
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)


def show(axes: "Axes", picture: np.ndarray, title: str, **style: Any) -> "AxesImage":
    """Draw a picture without ticks, under a title."""
    axes.set_title(title, fontsize=9.5, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes.imshow(picture, interpolation="nearest", **style)


def outline(axes: "Axes", mask: np.ndarray | None, colour: Any, style: str = "solid") -> None:
    """Draw the boundary of a binary mask [H, W]; nothing for None, empty or full masks."""
    if mask is None or not mask.any() or mask.all():
        return
    # Padded, so that a mask that touches the border is closed there too.
    padded = np.pad(np.asarray(mask, np.float32), 1)
    y, x = (np.arange(size) - 1 for size in padded.shape)
    # A dark line under the coloured one is visible on any background.
    for width, line in ((2.8, "black"), (1.5, colour)):
        axes.contour(
            x, y, padded, levels=[0.5], colors=[line], linewidths=width, linestyles=[style]
        )
    height, width = mask.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def colour_bar(axes: "Axes", mappable: Any, label: str, **options: Any) -> None:
    """A colour bar as wide as the picture, under it (beside it, panels would differ in width)."""
    place = axes.inset_axes((0, -0.08, 1, 0.05))
    bar = axes.figure.colorbar(mappable, cax=place, orientation="horizontal", **options)
    bar.ax.tick_params(labelsize=7.5)
    # As the panel's own label, below the bar: the layout makes room for that, not for an inset's.
    axes.set_xlabel(label, fontsize=8, labelpad=31)


def caption(figure: "Figure", text: str, warning: str = "") -> None:
    """Lines under the panels that say what the numbers are; above them, in red, what is wrong."""
    plain: Any = {"fontsize": 9, "linespacing": 1.4, "parse_math": False}
    figure.supxlabel(text, color="#222222", **plain)
    if warning:
        figure.suptitle(warning, color="#a4000f", **plain)


def to_png(figure: "Figure", dpi: int = 80) -> bytes:
    """The figure as PNG bytes."""
    buffer = io.BytesIO()
    # Without metadata: they hold a URL, and the same figure should give the same bytes.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
