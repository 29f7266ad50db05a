"""Images and explanations as the arrays of a store, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxseg_xai.core.types import IGNORED, Explanation, SegmentTarget
from jaxseg_xai.store.precision import Storage, rounded
from jaxseg_xai.store.records import Row, StoredExplanation, StoredImage, as_stored

Arrays = dict[str, np.ndarray]

#: Where no planes were written.
_NO_PLANES = 255
#: In planes: a pixel whose classes nobody knows.
_UNKNOWN = 2
#: Arrays of images whose empty places are neither NaN nor 0.
FILLS = {
    "labels": -1,
    "prediction": -1,
    "labels_planes": _NO_PLANES,
    "prediction_planes": _NO_PLANES,
}


def arrays_of_image(image: StoredImage, rank: int) -> Arrays:
    """What is stored of an image."""
    picture = image.image
    if rank == 2:  # in colour, as other readers expect
        picture = np.broadcast_to(picture, (*picture.shape[:-1], 3))
    arrays = {"image": picture}
    for name in ("labels", "prediction"):
        value = getattr(image, name)
        if value is None:
            continue
        if value.ndim > rank:
            planes = np.where(value == IGNORED, _UNKNOWN, value)
            arrays[f"{name}_planes"] = planes.astype(np.uint8)
        else:
            arrays[name] = np.asarray(value, np.int16)
    if image.affine is not None:
        arrays["affine"] = np.asarray(image.affine, np.float64)
    return arrays


def image_of(name: str, arrays: Mapping[str, np.ndarray]) -> StoredImage:
    """An image from its name and arrays."""
    picture, affine = arrays["image"], arrays.get("affine")
    return StoredImage(
        id=name,
        image=np.broadcast_to(picture, (*picture.shape[:-1], 3)),
        labels=segmentation(arrays, "labels"),
        prediction=segmentation(arrays, "prediction"),
        affine=None if affine is None or np.isnan(affine).any() else affine,
    )


def segmentation(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """A label map or planes of an image, None where neither was written."""
    planes, labels = arrays.get(f"{name}_planes"), arrays.get(name)
    if planes is not None and (planes != _NO_PLANES).any():
        unknown = planes == _UNKNOWN
        return np.where(unknown, IGNORED, planes).astype(np.int8) if unknown.any() else planes == 1
    return labels if labels is not None and (labels >= 0).any() else None


def arrays_of_explanation(
    explanation: Explanation, target: SegmentTarget, prediction: Any, storage: Storage
) -> tuple[Arrays, bool]:
    """What is stored of a row, and whether its prediction is left out, being that of its image.

    Args:
      explanation: of the row.
      target: what it explains.
      prediction: of its image, None where it has none.
      storage: how exactly maps are stored.
    """
    maps = {f"map_{name}": as_stored(value) for name, value in explanation.maps.items()}
    maps |= {"region": as_stored(target.region), "reference": as_stored(target.reference)}
    if explanation.attribution is not None:
        maps["attribution"] = as_stored(explanation.attribution)
    own = maps.get("map_prediction")
    same = own is not None and prediction is not None and _equal(own, np.asarray(prediction))
    if same:
        del maps["map_prediction"]
    arrays: Arrays = {}
    for name, value in maps.items():
        if value.dtype == bool:
            value = value.astype(np.uint8)
        arrays[name] = rounded(value) if value.dtype.kind == "f" and storage.rounds else value
    for name, value in explanation.traces.items():
        arrays[f"trace_{name}"] = np.asarray(value, np.float32)
    return arrays, same


def explanation_of(
    row: Row, arrays: Mapping[str, np.ndarray], prediction: Any
) -> StoredExplanation:
    """A row from what is stored of it.

    Args:
      row: without its arrays.
      arrays: of the row.
      prediction: of its image, where that of the row was left out; else None.
    """
    traces = {n[6:]: v for n, v in arrays.items() if n.startswith("trace_")}
    # Only what was boolean is stored as uint8.
    maps = {
        name: value.astype(bool) if value.dtype == np.uint8 else value
        for name, value in arrays.items()
        if not name.startswith("trace_")
    }
    if prediction is not None:
        maps["map_prediction"] = as_stored(prediction)
    return StoredExplanation(
        row=row,
        attribution=maps.pop("attribution", None),
        region=maps.pop("region", None),
        reference=maps.pop("reference", None),
        maps={name.removeprefix("map_"): value for name, value in maps.items()},
        traces=traces,
    )


def dims_of(name: str, value: np.ndarray, axes: tuple[str, ...]) -> tuple[str, ...]:
    """Dimensions of an array after the rows."""
    if name.startswith("trace_"):
        return (f"t_{name[6:]}",)
    if name == "affine":
        return ("position", "axis")
    last = "channel" if name == "image" else "class"
    return (*axes, last) if value.ndim > len(axes) else axes


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two segmentations are the same, planes or label maps."""
    return (one.dtype == bool) == (other.dtype == bool) and np.array_equal(one, other)
