"""The figure of nested regions: from the predicted segment to the least that suffices for it."""

from typing import TYPE_CHECKING

import numpy as np

from jaxseg_xai.report import overlays, panels, segments
from jaxseg_xai.report.record import Record
from jaxseg_xai.report.scales import scale_of
from jaxseg_xai.report.slices import pictures_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE = "#56b4e9"


def regions_figure(record: Record) -> "Figure":
    """Six panels: image; prediction; a first region; the attribution; what is kept; its prediction.

    The attribution is in [0, 1]. The maps: `sufficient_region` bool, the region first found;
    `minimal_region` bool, what of the image the model is shown in the end; `masked_prediction`,
    what it segments from that. Where a score `dice_region` says how the region would do, the model
    is shown the image times the attribution instead.
    """
    pictures = pictures_of(record)
    shapes = [picture.attribution.shape for picture in pictures]
    figure, rows, _ = panels.picture_grid(shapes, 6, wrap=3, text_height=0.45)
    colouring = scale_of(record)
    scale = panels.colour_scale(colouring.low, colouring.high, colouring.colours)
    soft = "dice_region" in record.stored.row.scores
    title = f"Minimally sufficient {'mask' if soft else 'region'}"
    title = record.title("attribution", title)
    for axes, picture in zip(rows, pictures, strict=True):
        explained = segments.predicted(picture, record)
        segments.show_image(axes[0], picture, record)
        segments.show_prediction(axes[1], picture, record)
        panels.show(
            axes[2], picture.image, "Sufficient region (blue)\ngrown from the class (white)"
        )
        panels.outline(axes[2], picture.maps.get("sufficient_region"), BLUE)
        panels.outline(axes[2], explained, overlays.WHITE)
        panels.show(axes[3], picture.attribution, title, cmap=scale.cmap, norm=scale.norm)
        mask = np.clip(picture.attribution, 0, 1)
        mask = mask if soft else picture.maps.get("minimal_region", mask)
        kept = overlays.blend(np.zeros_like(picture.image), picture.image, mask)
        panels.show(axes[4], kept, "What the model is shown\nimage × mask")
        again = picture.maps.get("masked_prediction")
        words = "What it segments from that\n(white line: the original)"
        segments.show_segmentation(axes[5], kept, again, record, words)
        panels.outline(axes[5], explained, overlays.WHITE)
    panels.colour_bar(rows[-1][3], scale, record.unit)
    segments.name_classes(rows[-1][1], pictures, record)
    panels.name_rows(rows, [picture.name for picture in pictures])
    panels.caption(figure, record.caption, record.warning)
    return figure
