"""What every figure needs to know of an explanation: its pictures, names and numbers in words."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxseg_xai.core.types import Status
from jaxseg_xai.report import overlays, panels
from jaxseg_xai.store.records import StoredExplanation, StoredImage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Why an explanation is not what one would expect; shown in every figure and in the report.
STATUS_NOTES: Mapping[Status | None, str] = {
    None: "Pending: this explanation has not been computed yet.",
    Status.OK: "",
    Status.EMPTY_TARGET: "Nothing to explain: the class has no pixel (for the ATE, in the "
    "reference inside the region; else in the prediction).",
    Status.EMPTY_REGION: "Nothing to explain: the region has no pixel.",
    Status.NOT_REACHED: "Not sufficient: no dilation brought the Dice to the threshold; "
    "the region is only the largest tried.",
    Status.NON_FINITE: "No maps: the image, the model's output or the result held NaN or infinity.",
    Status.FAILED: "This explanation failed.",
    Status.REGION_TOO_LARGE: "No maps: the region is larger than the box of side `region_side`.",
}


def class_name(class_index: int, class_names: Sequence[str]) -> str:
    """Name of a class, or "class 3" where it has none."""
    known = 0 <= class_index < len(class_names)
    return class_names[class_index] if known else f"class {class_index}"


def pictures(stored: StoredExplanation, image: StoredImage | None) -> tuple[np.ndarray, np.ndarray]:
    """Attribution float32 [H, W] and image uint8 [H, W, 3]; what is missing is grey, or zero."""
    if stored.attribution is not None:
        shape = stored.attribution.shape
    else:
        shape = (64, 64) if image is None else image.image.shape[:2]
    picture = np.full((*shape, 3), 200, np.uint8) if image is None else image.image
    attribution = np.zeros(shape, np.float32) if stored.attribution is None else stored.attribution
    return attribution, picture


def prediction_of(stored: StoredExplanation, image: StoredImage | None) -> np.ndarray | None:
    """The model's label map, from the explanation or else from the image."""
    return stored.maps.get("prediction", None if image is None else image.prediction)


def show_prediction(
    axes: "Axes", picture: np.ndarray, segmentation: np.ndarray | None, label: int, title: str
) -> None:
    """A label map over a picture, the explained class outlined."""
    if segmentation is None:
        panels.show(axes, picture, title)
        return
    panels.show(axes, overlays.colour_labels(picture, segmentation, label), title)
    panels.outline(axes, segmentation == label, overlays.class_colour(label) / 255)


def show_explained(
    axes: "Axes", stored: StoredExplanation, image: StoredImage | None, class_names: Sequence[str]
) -> np.ndarray | None:
    """Show the prediction; the explained class in it, bool [H, W], where there is one."""
    label, prediction = stored.plan.class_index, prediction_of(stored, image)
    title = f"Prediction: {class_name(label, class_names)}"
    show_prediction(axes, pictures(stored, image)[1], prediction, label, title)
    return None if prediction is None else prediction == label


def is_part(region: np.ndarray | None) -> bool:
    """Whether a region is more than nothing and less than the whole image."""
    return region is not None and bool(region.any()) and not region.all()


def number(value: float, digits: int = 2, unit: str = "") -> str:
    """A number for a caption; a dash where it is not defined."""
    return f"{value:.{digits}f}{unit}" if np.isfinite(value) else "–"


class Scores:
    """The scores of an explanation as text: `scores("dice_minimal", 3)`."""

    def __init__(self, stored: StoredExplanation) -> None:
        self._scores = stored.scores

    def __call__(self, name: str, digits: int = 2) -> str:
        """Score `name` with so many digits."""
        return number(self._scores.get(name, np.nan), digits)
