"""The figure of a map over the image: what speaks for the class, and against it."""

from typing import TYPE_CHECKING, Any

from jaxseg_xai.report import overlays, panels, segments
from jaxseg_xai.report.record import Record
from jaxseg_xai.report.scales import scale_of
from jaxseg_xai.report.slices import pictures_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Of the attribution over the image.
_OPACITY = 0.7


def heat_figure(record: Record) -> "Figure":
    """Image, prediction, and the attribution in colours over the image.

    A signed attribution is red above zero and blue below; one of a single sign is bright where it
    is large.
    """
    pictures = pictures_of(record)
    shapes = [picture.attribution.shape for picture in pictures]
    figure, rows, _ = panels.picture_grid(shapes, 3, text_height=0.45)
    colouring = scale_of(record)
    scale = panels.colour_scale(colouring.low, colouring.high, colouring.colours)
    title = record.title("attribution", f"Attribution of {record.entry.label}")
    for (left, middle, right), picture in zip(rows, pictures, strict=True):
        segments.show_image(left, picture, record)
        segments.show_prediction(middle, picture, record)
        panels.show(right, overlays.to_grey(picture.image), title)
        colours: Any = {"cmap": scale.cmap, "norm": scale.norm, "alpha": _OPACITY}
        panels.show(right, picture.attribution, title, **colours)
        for panel in (left, middle, right):
            panels.outline(panel, picture.region, overlays.GREEN)
    # One scale for all rows; its ends are open, since a few pixels can outweigh the rest by far.
    extend = "both" if colouring.signed else "max"
    panels.colour_bar(rows[-1][2], scale, record.unit, extend=extend, alpha=_OPACITY)
    segments.name_classes(rows[-1][1], pictures, record)
    panels.name_rows(rows, [picture.name for picture in pictures])
    region = record.stored.region
    part = region is not None and bool(region.any()) and not region.all()
    lines = [record.caption] + (["Green: the region explained."] if part else [])
    panels.caption(figure, "\n".join(filter(None, lines)), record.warning)
    return figure
