"""Segmentations on a picture: label maps as colours, overlapping classes as outlines."""

from typing import TYPE_CHECKING

import numpy as np

from jaxseg_xai.core.types import plane_of
from jaxseg_xai.report import overlays, panels
from jaxseg_xai.report.record import Record
from jaxseg_xai.report.slices import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Names under a panel; more would need more room than the panel itself.
_MOST_NAMES = 6
_RANK = 2  # of whatever a figure draws


def predicted(picture: Picture, record: Record) -> np.ndarray | None:
    """The explained class in the prediction, bool [*S]; None where there is no prediction."""
    if picture.prediction is None:
        return None
    return plane_of(picture.prediction, record.class_index, picture.rank)


def show_segmentation(
    axes: "Axes", image: np.ndarray, segmentation: np.ndarray | None, record: Record, title: str
) -> None:
    """A segmentation over an image uint8 [H, W, 3], the explained class outlined.

    Args:
      axes: the panel.
      image: uint8 [H, W, 3].
      segmentation: label map [H, W]; planes bool [H, W, K]; one class alone, bool [H, W]; or None.
      record: which class is explained.
      title: over the panel.
    """
    if segmentation is None:
        panels.show(axes, image, title)
    elif segmentation.ndim > _RANK:
        _show_planes(axes, image, segmentation, record.class_index, title)
    else:
        label = record.class_index
        if segmentation.dtype == bool:
            segmentation = np.where(segmentation, label, 0)
        panels.show(axes, overlays.colour_labels(image, segmentation, label), title)
        panels.outline(axes, segmentation == label, overlays.class_colour(label) / 255)


def show_prediction(axes: "Axes", picture: Picture, record: Record) -> None:
    """The model's prediction over the image."""
    title = f"Prediction: {record.class_name}"
    show_segmentation(axes, picture.image, picture.prediction, record, title)


def show_image(axes: "Axes", picture: Picture, record: Record) -> None:
    """The image; what is explained is outlined where that is not the whole predicted segment."""
    mine, segment = picture.reference, predicted(picture, record)
    other = mine is not None and segment is not None and not np.array_equal(mine, segment)
    if record.meta.target == "reference" or other:
        panels.show(axes, picture.image, f"Explained: {record.class_name}\n(yellow line)")
        panels.outline(axes, picture.reference, overlays.YELLOW)
    else:
        panels.show(axes, picture.image, "Image")


def name_classes(axes: "Axes", pictures: list[Picture], record: Record) -> None:
    """Names of the classes under the panel of the prediction, where there are several."""
    shown = [p.prediction for p in pictures if p.prediction is not None]
    overlapping = any(segmentation.ndim > _RANK for segmentation in shown)
    present = sorted({label for segmentation in shown for label in classes(segmentation)})
    if len(present) < 2:
        return
    from matplotlib.lines import Line2D  # optional, and there if a panel is

    listed = sorted(present[:_MOST_NAMES])
    lines = [
        Line2D([], [], color=tuple(overlays.class_colour(label, overlapping) / 255), lw=3)
        for label in listed
    ]
    names = [record.name_of(label) for label in listed]
    # A second row would run into the title of the panel below.
    one_row = sum(map(len, names)) + 4 * len(names) <= 40
    legend = axes.legend(
        lines,
        ["name"] * len(lines),
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        borderaxespad=0.1,
        ncols=len(lines) if one_row else 2,
        fontsize=7,
        frameon=False,
        handlelength=0.9,
        handletextpad=0.4,
        columnspacing=0.7,
        borderpad=0.1,
    )
    # Set afterwards: a legend leaves out names that begin with an underscore.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def classes(segmentation: np.ndarray, rank: int = _RANK) -> list[int]:
    """Foreground classes that have a pixel, of a label map [*S] or planes [*S, K]."""
    if segmentation.ndim > rank:
        return np.flatnonzero(segmentation.any(axis=tuple(range(rank)))).tolist()
    return np.unique(segmentation[segmentation > 0]).astype(int).tolist()


def _show_planes(
    axes: "Axes", image: np.ndarray, planes: np.ndarray, class_index: int, title: str
) -> None:
    """The explained class painted, each class outlined, the largest first and with thicker lines.

    So a class that lies in another, or is the same as another, hides nothing of it.
    """
    colours = [overlays.class_colour(k, overlapping=True) for k in range(planes.shape[-1])]
    painted = image
    if 0 <= class_index < len(colours):
        weight = 0.45 * plane_of(planes, class_index, _RANK)
        painted = overlays.blend(image, colours[class_index], weight)
    panels.show(axes, painted, title)
    largest_first = sorted(classes(planes), key=lambda k: -int(planes[..., k].sum()))
    for place, k in enumerate(largest_first):
        to_come = len(largest_first) - 1 - place
        panels.outline(axes, planes[..., k], colours[k] / 255, width=1.5 + 1.4 * min(to_come, 3))
