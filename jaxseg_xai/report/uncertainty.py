"""The figure of maps in [0, 1] that say where the model is unsure."""

from typing import TYPE_CHECKING

from jaxseg_xai.report import overlays, panels, segments
from jaxseg_xai.report.record import Record
from jaxseg_xai.report.scales import scale_of
from jaxseg_xai.report.slices import pictures_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def uncertainty_figure(record: Record) -> "Figure":
    """The prediction, the attribution, and every other map of numbers in [0, 1]."""
    pictures = pictures_of(record)
    shapes = [picture.attribution.shape for picture in pictures]
    further = [name for name, values in record.stored.maps.items() if values.dtype.kind == "f"]
    figure, rows, _ = panels.picture_grid(shapes, 2 + len(further), text_height=0.45)
    colouring = scale_of(record)
    scale = panels.colour_scale(colouring.low, colouring.high, colouring.colours)
    titles = [record.title("attribution", "Uncertainty")]
    titles += [record.title(name, name.replace("_", " ").capitalize()) for name in further]
    for axes, picture in zip(rows, pictures, strict=True):
        segments.show_prediction(axes[0], picture, record)
        explained = segments.predicted(picture, record)
        maps = [picture.attribution, *(picture.maps[name] for name in further)]
        for panel, values, title in zip(axes[1:], maps, titles, strict=True):
            panels.show(panel, values, title, cmap=scale.cmap, norm=scale.norm)
            # Thin: it is at the outline that models are unsure.
            panels.outline(panel, explained, overlays.WHITE, width=0.6)
    for panel, unit in zip(
        rows[-1][1:], [record.unit, *["from 0 to 1"] * len(further)], strict=True
    ):
        panels.colour_bar(panel, scale, unit)
    segments.name_classes(rows[-1][0], pictures, record)
    panels.name_rows(rows, [picture.name for picture in pictures])
    panels.caption(figure, record.caption, record.warning)
    return figure
