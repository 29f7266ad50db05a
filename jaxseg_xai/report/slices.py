"""What is drawn of an explanation: an image or the part that matters, three planes of a volume."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxseg_xai.report.record import Record

#: Axes of a volume [D, H, W]. How it lies in the body is not known here.
AXES = ("depth", "height", "width")
#: Of an image with a longer side the part that matters is drawn, if that is less than half of each
#: side, with so many pixels around it.
_LONG, _AROUND = 1024, 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """An explanation on one plane of H x W pixels.

    Attributes:
      name: which plane of a volume, "depth 13 of 40"; which part of a large image, "rows 1 to 64,
        columns 9 to 80"; "" of an image.
      image: uint8 [H, W, 3]; grey where there is none.
      attribution: float32 [H, W]; zeros where there is none.
      region: bool [H, W], or None.
      reference: bool [H, W], or None.
      prediction: label map int [H, W] or planes bool [H, W, K], or None.
      maps: name -> [H, W] or [H, W, K], further maps of the method.
    """

    name: str
    image: np.ndarray
    attribution: np.ndarray
    region: np.ndarray | None
    reference: np.ndarray | None
    prediction: np.ndarray | None
    maps: Mapping[str, np.ndarray]


def pictures_of(record: Record) -> list[Picture]:
    """One picture of an image (of a large one its part with what is explained), three of a volume.

    The planes of a volume meet in what is explained, in the pixel nearest to its centre; where
    nothing is, in the centre of the attribution, or of the volume.
    """
    stored, image = record.stored, record.image
    known = [a for a in (stored.attribution, stored.region) if a is not None]
    if image is not None:
        known.append(image.image[..., 0])
    shape = known[0].shape if known else (64, 64)
    whole = Picture(
        name="",
        image=np.full((*shape, 3), 200, np.uint8) if image is None else image.image,
        attribution=np.zeros(shape, np.float32)
        if stored.attribution is None
        else stored.attribution,
        region=stored.region,
        reference=stored.reference,
        prediction=stored.maps.get("prediction", None if image is None else image.prediction),
        maps=stored.maps,
    )
    if len(shape) == 2:
        return [_part(whole) if max(shape) > _LONG else whole]
    return [_plane(whole, axis, index) for axis, index in enumerate(_centre(whole))]


def _centre(whole: Picture) -> tuple[int, ...]:
    shape = whole.attribution.shape
    if whole.reference is not None:
        explained = whole.reference if whole.region is None else whole.reference & whole.region
        if explained.any():
            # A pixel of it: the centre of a ring is not in the ring.
            found = np.argwhere(explained)
            distance = np.sum((found - found.mean(axis=0)) ** 2, axis=1)
            return tuple(map(int, found[np.argmin(distance)]))
    weight = np.abs(whole.attribution, dtype=np.float64)
    if not weight.any():
        return tuple(size // 2 for size in shape)
    along = (np.indices(shape) * weight).reshape(len(shape), -1).sum(axis=1) / weight.sum()
    return tuple(round(float(position)) for position in along)


def _part(whole: Picture) -> Picture:
    """The box around what is explained and what has an attribution; all where that is not small."""
    matters = whole.attribution != 0
    if whole.region is not None and not whole.region.all():
        matters |= whole.region
    if whole.reference is not None and not matters.any():
        matters = whole.reference
    if not matters.any():
        return whole
    box = []
    for axis, size in enumerate(matters.shape):
        inside = np.flatnonzero(matters.any(1 - axis))
        box.append((max(0, inside[0] - _AROUND), min(size, inside[-1] + 1 + _AROUND)))
    if any(2 * (b - a) > size for (a, b), size in zip(box, matters.shape, strict=True)):
        return whole
    rows, columns = (f"{a + 1} to {b}" for a, b in box)
    place = tuple(slice(a, b) for a, b in box)
    return _cut(whole, f"rows {rows}, columns {columns}", lambda array: array[place])


def _plane(whole: Picture, axis: int, index: int) -> Picture:
    name = f"{AXES[axis]} {index + 1} of {whole.attribution.shape[axis]}"
    return _cut(whole, name, lambda array: np.take(array, index, axis))


def _cut(whole: Picture, name: str, take: Callable[[np.ndarray], np.ndarray]) -> Picture:
    def cut(array: np.ndarray | None) -> Any:
        return None if array is None else take(array)

    return Picture(
        name=name,
        image=cut(whole.image),
        attribution=cut(whole.attribution),
        region=cut(whole.region),
        reference=cut(whole.reference),
        prediction=cut(whole.prediction),
        maps={name: cut(values) for name, values in whole.maps.items()},
    )
