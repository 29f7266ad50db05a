"""Building blocks of the figures: a grid of titled pictures, outlines, colour bars, PNG bytes.

Figures are made with the object-oriented API and the Agg canvas, so that drawing neither needs a
display nor touches pyplot's global state.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.errors import MissingExtraError
from jaxseg_xai.types import Status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

#: Why an explanation is not what one would expect; shown in every figure and in the report.
STATUS_NOTES = {
    None: "Pending: this explanation has not been computed yet.",
    Status.OK: "",
    Status.EMPTY_TARGET: "Nothing to explain: the class has no pixel in this image.",
    Status.EMPTY_REGION: "Nothing to explain: the region has no pixel.",
    Status.NOT_REACHED: "Not reached: no dilation brought the Dice to the threshold, so the region "
    "shown is only the largest tried.",
    Status.NON_FINITE: "The image, the model's output or the result held NaN or infinity; "
    "the maps are zeros.",
    Status.FAILED: "This explanation failed.",
}
PANEL = 2.7  # inches


def new_figure(num_rows: int, num_columns: int, shape: tuple[int, ...]) -> "tuple[Figure, Any]":
    """An empty figure of panels that fit images [H, W]; returns it and its axes [rows, columns]."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing figures", "report") from error
    # Strips of one pixel would make a figure too flat, or too tall, to carry its titles.
    aspect = min(max(shape[0] / shape[1], 0.4), 2.5)
    size = (PANEL * num_columns, (PANEL * aspect + 0.55) * num_rows + 0.65)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)


def show(axes: "Axes", picture: np.ndarray, title: str, **style: Any) -> "AxesImage":
    """Draw a picture without ticks, under a title."""
    axes.set_title(title, fontsize=9.5)
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
    """A colour bar as tall as the picture, at its right."""
    bar = axes.figure.colorbar(mappable, cax=axes.inset_axes((1.03, 0, 0.045, 1)), **options)
    bar.ax.tick_params(labelsize=7.5)
    bar.set_label(label, fontsize=8)


def footer(figure: "Figure", text: str, warning: str = "") -> None:
    """Lines under the panels: what the numbers are and, in red, what is wrong."""
    lines = [line for line in (text, warning) if line]
    figure.supxlabel(
        "\n".join(lines), fontsize=9, color="#a4000f" if warning else "#222222", linespacing=1.5
    )


def number(value: float, digits: int = 2, unit: str = "") -> str:
    """A number for a caption; "–" where it is not defined."""
    return f"{value:.{digits}f}{unit}" if np.isfinite(value) else "–"


def to_png(figure: "Figure", dpi: int = 80) -> bytes:
    """The figure as PNG bytes."""
    buffer = io.BytesIO()
    # Without metadata: they hold a URL, and the same figure should give the same bytes.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
