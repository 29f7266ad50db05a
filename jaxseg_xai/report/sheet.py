"""A sheet of pictures: what images are in their files, and what a model will see of them."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxseg_xai.core.types import IGNORED, known_pixels, plane_of
from jaxseg_xai.report import overlays, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: How dark pixels are whose class nobody knows.
_UNKNOWN = 0.7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """One image of the sheet.

    Attributes:
      name: of the image, and what else is to be said of it.
      image: uint8 [H, W, 1 or 3], as its source gives it.
      seen: uint8 [h, w, 1 or 3], as the model takes it; None without a model.
      labels: ground truth, a label map int [H, W] or planes bool [H, W, K]; None where there is
        none.
    """

    name: str
    image: np.ndarray
    seen: np.ndarray | None = None
    labels: np.ndarray | None = None


def sheet_figure(tiles: Sequence[Tile]) -> "Figure":
    """A row for each image: the image, what the model sees, the labels on it.

    Columns that no image has are left out.

    Raises:
      MissingExtraError: without the extra `report`.
    """
    columns = ["Image"]
    columns += ["The model sees"] if any(tile.seen is not None for tile in tiles) else []
    columns += ["Labels"] if any(tile.labels is not None for tile in tiles) else []
    width, height = panels.PANEL * len(columns), (panels.PANEL + 0.3) * len(tiles)
    figure, axes = panels.new_figure(len(tiles), len(columns), width, height)
    for row, tile in zip(axes, tiles, strict=True):
        drawn = {
            "Image": _colours(tile.image),
            "The model sees": None if tile.seen is None else _colours(tile.seen),
            "Labels": None if tile.labels is None else _painted(tile.image, tile.labels),
        }
        for panel, column in zip(row, columns, strict=True):
            picture = drawn[column]
            if picture is None:
                panel.set_axis_off()
                continue
            title = tile.name if column == "Image" else column
            if column == "Labels" and tile.labels is not None and (tile.labels == IGNORED).any():
                title += " (dark: not known)"
            panels.show(panel, picture, title)
    return figure


def _colours(picture: np.ndarray) -> np.ndarray:
    """[H, W, 1 or 3] as [H, W, 3]."""
    return np.broadcast_to(picture, (*picture.shape[:2], 3))


def _painted(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    picture = overlays.to_grey(_colours(image))
    picture = overlays.blend(picture, np.zeros(3), _UNKNOWN * ~known_pixels(labels, 2))
    if labels.ndim == 2:
        return overlays.colour_labels(picture, labels, class_index=0, opacity=1.0)
    for k in range(labels.shape[-1]):
        picture = overlays.blend(
            picture, overlays.class_colour(k, overlapping=True), 0.5 * plane_of(labels, k, 2)
        )
    return picture
