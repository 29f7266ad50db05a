"""What is drawn of an explanation: an image or the part that matters, three planes of a volume."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jaxseg_xai.report.record import Record

#: Of an image with a longer side the part that matters is drawn, if that is less than half of each
#: side, with so many pixels around it.
_LONG, _AROUND = 1024, 32


@dataclasses.dataclass(frozen=True)
class Place:
    """A part of an image, a plane of a volume, or all of either.

    Attributes:
      name: which plane of a volume, "depth 13 of 40"; which part of a large image, "rows 1 to 64,
        columns 9 to 80"; "" of all.
      index: what takes it out of an array [*S, ...].
    """

    name: str
    index: tuple[slice | int, ...]

    @property
    def origin(self) -> list[int]:
        """Place of its first pixel, row and column say."""
        return [part.start or 0 for part in self.index if isinstance(part, slice)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """An explanation on one plane of H x W pixels, or in a volume [D, H, W].

    Attributes:
      name: of its place.
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

    @property
    def rank(self) -> int:
        """2 of a plane, 3 of a volume."""
        return self.attribution.ndim


def pictures_of(record: Record) -> list[Picture]:
    """One picture of an image (of a large one its part with what is explained), three of a volume.

    The planes of a volume meet in what is explained, in the pixel nearest to its centre; where
    nothing is, in the centre of the attribution, or of the volume.
    """
    return [picture_at(record, place) for place in places_of(record)]


def place_of(record: Record) -> Place:
    """What can be looked at: a volume, or an image, of a large one the part that matters."""
    shape = shape_of(record)
    if len(shape) == 2 and max(shape) > _LONG:
        return _part(record)
    return Place("", (slice(None),) * len(shape))


def places_of(record: Record) -> list[Place]:
    """Where the pictures of an explanation are; see `pictures_of`."""
    shape = shape_of(record)
    if len(shape) == 2:
        return [place_of(record)]
    everything = (slice(None),) * len(shape)
    return [
        Place(
            f"{record.axes[axis]} {index + 1} of {shape[axis]}",
            (*everything[:axis], index, *everything[axis + 1 :]),
        )
        for axis, index in enumerate(centre_of(record))
    ]


def picture_at(record: Record, place: Place) -> Picture:
    """What is known of an explanation at a place."""
    stored, image = record.stored, record.image

    def cut(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else array[place.index]

    empty = np.zeros(shape_of(record), np.float32)[place.index]
    attribution, picture = cut(stored.attribution), None if image is None else cut(image.image)
    return Picture(
        name=place.name,
        image=np.full((*empty.shape, 3), 200, np.uint8) if picture is None else picture,
        attribution=empty if attribution is None else attribution,
        region=cut(stored.region),
        reference=cut(stored.reference),
        prediction=cut(stored.maps.get("prediction", None if image is None else image.prediction)),
        maps={name: values[place.index] for name, values in stored.maps.items()},
    )


def shape_of(record: Record) -> tuple[int, ...]:
    """Of the image that is explained; one of 64 x 64 where nothing is known of it."""
    known = [a for a in (record.stored.attribution, record.stored.region) if a is not None]
    if record.image is not None:
        known.append(record.image.image[..., 0])
    return known[0].shape if known else (64, 64)


def centre_of(record: Record) -> tuple[int, ...]:
    """The pixel in which the planes of a volume meet, see `pictures_of`."""
    stored, shape = record.stored, shape_of(record)
    if stored.reference is not None:
        explained = stored.reference
        if stored.region is not None:
            explained = explained & stored.region
        if explained.any():
            # A pixel of it: the centre of a ring is not in the ring.
            found = np.argwhere(explained)
            distance = np.sum((found - found.mean(axis=0)) ** 2, axis=1)
            return tuple(map(int, found[np.argmin(distance)]))
    if stored.attribution is None or not stored.attribution.any():
        return tuple(size // 2 for size in shape)
    weight = np.abs(stored.attribution, dtype=np.float64)
    along = (np.indices(shape) * weight).reshape(len(shape), -1).sum(axis=1) / weight.sum()
    return tuple(round(float(position)) for position in along)


def _part(record: Record) -> Place:
    """The box around what is explained and what has an attribution; all where that is not small."""
    stored, whole = record.stored, Place("", (slice(None), slice(None)))
    matters = np.zeros(shape_of(record), bool)
    if stored.attribution is not None:
        matters |= stored.attribution != 0
    if stored.region is not None and not stored.region.all():
        matters |= stored.region
    if stored.reference is not None and not matters.any():
        matters = stored.reference
    if not matters.any():
        return whole
    box = []
    for axis, size in enumerate(matters.shape):
        inside = np.flatnonzero(matters.any(1 - axis))
        box.append((max(0, int(inside[0]) - _AROUND), min(size, int(inside[-1]) + 1 + _AROUND)))
    if any(2 * (b - a) > size for (a, b), size in zip(box, matters.shape, strict=True)):
        return whole
    rows, columns = (f"{a + 1} to {b}" for a, b in box)
    return Place(f"rows {rows}, columns {columns}", tuple(slice(a, b) for a, b in box))
