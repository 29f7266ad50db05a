"""What the gallery outlines: classes, the truth, what is explained, a method's own regions."""

import dataclasses
from typing import Any, Literal

import numpy as np

from jaxseg_xai.core.types import plane_of
from jaxseg_xai.report import overlays, segments
from jaxseg_xai.report.record import Record
from jaxseg_xai.report.slices import Picture, Place

#: The largest classes of an image that are outlined.
_MOST_CLASSES = 24
#: Of a method's own regions, in turn; of effects the significant ones, as in figures.
_OWN = ("#56b4e9", "#ffffff", "#e69f00", "#cc79a7")
_OWN_OF_EFFECTS = ("#000000", *_OWN)


@dataclasses.dataclass(frozen=True)
class Outline:
    """The boundary of a mask.

    Attributes:
      name: what it is, in words.
      kind: the explained "class" as predicted, "others", the "truth", what is "explained", or a
        "method"'s own.
      colour: of its line, "#00c853".
      mask: bool [H, W] or [D, H, W], neither empty nor full.
      dashed: whether the line is.
    """

    name: str
    kind: Literal["class", "others", "truth", "explained", "method"]
    colour: str
    mask: np.ndarray
    dashed: bool = False


def outlines_of_case(picture: Picture, record: Record, place: Place) -> list[Outline]:
    """The predicted classes, the largest first, and where the explained class is in truth."""
    found, prediction, rank = [], picture.prediction, picture.rank
    if prediction is not None:
        planes = prediction.ndim > rank
        masks = {k: plane_of(prediction, k, rank) for k in segments.classes(prediction, rank)}
        for k in sorted(masks, key=lambda k: -int(masks[k].sum()))[:_MOST_CLASSES]:
            colour = _hex(overlays.class_colour(k, overlapping=planes))
            kind = "class" if k == record.class_index else "others"
            found.append(Outline(f"predicted: {record.name_of(k)}", kind, colour, masks[k]))
    image = record.image
    if image is not None and image.labels is not None:
        truth = plane_of(image.labels[place.index], record.class_index, rank)
        name = f"truth: {record.class_name}"
        found.append(Outline(name, "truth", overlays.WHITE, truth, dashed=True))
    return _worth_drawing(found)


def outlines_of_method(picture: Picture, record: Record) -> list[Outline]:
    """The region and the segment that a method explains, and its own regions."""
    found: list[Outline] = []

    def add(name: str, kind: Any, colour: str, mask: np.ndarray | None) -> None:
        if mask is not None:
            found.append(Outline(name, kind, colour, mask))

    add("region explained", "explained", overlays.GREEN, picture.region)
    mine, segment = picture.reference, segments.predicted(picture, record)
    if mine is not None and not (segment is not None and np.array_equal(mine, segment)):
        add(f"explained: {record.class_name}", "explained", overlays.YELLOW, mine)
    colours = _OWN_OF_EFFECTS if record.meta.figure == "effects" else _OWN
    own = [name for name in picture.maps if name != "prediction"]
    own = [name for name in own if picture.maps[name].dtype.kind in "bi"]
    for place, name in enumerate(own):
        values = picture.maps[name]
        again = values.ndim > picture.rank or values.dtype.kind == "i"  # a segmentation of its own
        mask = plane_of(values, record.class_index, picture.rank) if again else values
        add(name.replace("_", " "), "method", colours[place % len(colours)], mask)
    return _worth_drawing(found)


def _worth_drawing(found: list[Outline]) -> list[Outline]:
    return [one for one in found if one.mask.any() and not one.mask.all()]


def _hex(colour: np.ndarray) -> str:
    return "#" + bytes(colour.tolist()).hex()
