"""Volumes turned as a radiologist looks at them, where it is known how they lie in the body."""

import dataclasses

import numpy as np

from jaxseg_xai.core.orientation import Turn, turn_to
from jaxseg_xai.report.record import Record

#: The planes across axes that run down, to the back and to the patient's left: so the rows and
#: columns of all three are as is usual, the front or the head up and the right on the left.
_DIRECTIONS, _NAMES = "IPL", ("axial", "coronal", "sagittal")


def affine_of(record: Record) -> np.ndarray | None:
    """The affine of a volume; None of an image, or where nobody knows it."""
    image = record.image
    return None if image is None or image.image.ndim != 4 else image.affine


def turn_of(record: Record) -> Turn:
    """How a volume is turned; not at all where nobody knows how it lies, or of an image."""
    affine = affine_of(record)
    return Turn() if affine is None else turn_to(affine, _DIRECTIONS)


def upright(record: Record) -> Record:
    """A record whose arrays are turned by `turn_of`; its affine is still that of the volume."""
    turn = turn_of(record)
    if affine_of(record) is None or record.image is None:
        return record

    def turned(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else turn.apply(array)

    stored, image = record.stored, record.image
    stored = dataclasses.replace(
        stored,
        attribution=turned(stored.attribution),
        region=turned(stored.region),
        reference=turned(stored.reference),
        maps={name: turn.apply(values) for name, values in stored.maps.items()},
    )
    image = dataclasses.replace(
        image,
        image=turn.apply(image.image),
        prediction=turned(image.prediction),
        labels=turned(image.labels),
    )
    return dataclasses.replace(record, stored=stored, image=image, axes=_NAMES)
