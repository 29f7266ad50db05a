"""What a page is told of a volume beside its arrays: how it lies, and its slices as one picture."""

import math
from typing import Any

import numpy as np

from jaxseg_xai.report.record import Record
from jaxseg_xai.report.slices import centre_of, shape_of
from jaxseg_xai.report.upright import affine_of, turn_of

#: Letters at the left and upper edge of the planes across axes that run down, back and left.
_EDGES = (("R", "A"), ("R", "S"), ("A", "S"))


def volume_json(record: Record, shape: tuple[int, ...]) -> dict[str, Any]:
    """What the page needs to cut planes and to say where a voxel is.

    Args:
      record: a volume, from `upright`.
      shape: of what is shown, the volume's own or reduced.

    Returns:
      `axes`, names of the planes across each; `edges` of the planes, two letters each, [] where
      nobody knows how it lies; `spacing`; `start`, where the planes meet at first; `own`, of each
      axis of the volume itself the place in `axes`, its size and whether it runs the other way;
      `affine` from the volume's own indices to millimetres, or None; `columns` of the picture.
    """
    turn, affine = turn_of(record), affine_of(record)
    whole = shape_of(record)
    start = [
        min(n - 1, at * n // m) for at, n, m in zip(centre_of(record), shape, whole, strict=True)
    ]
    places = [turn.order.index(axis) for axis in range(3)]
    return {
        "axes": list(record.axes),
        "edges": [] if affine is None else [list(pair) for pair in _EDGES],
        "spacing": spacing_of(record),
        "start": start,
        "own": [{"axis": i, "size": whole[i], "back": turn.flipped[i]} for i in places],
        "affine": None if affine is None else affine.tolist(),
        "columns": num_columns(shape),
    }


def spacing_of(record: Record) -> list[float]:
    """Millimetres between voxels along each axis of a record from `upright`; 1 if not known."""
    affine = affine_of(record)
    if affine is None:
        return [1.0] * len(shape_of(record))
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    return [float(steps[axis]) for axis in turn_of(record).order]


def num_columns(shape: tuple[int, ...]) -> int:
    """Slices beside each other in the picture of a volume, so that it is about as wide as high."""
    depth, height, width = shape
    return max(1, min(depth, round(math.sqrt(depth * height / width))))


def tiled(volume: np.ndarray, columns: int) -> np.ndarray:
    """The slices of a volume uint8 [D, H, W, 3] beside and below each other, uint8 [h, w, 3]."""
    depth, height, width, channels = volume.shape
    rows = -(-depth // columns)
    padded = np.pad(volume, ((0, rows * columns - depth), *[(0, 0)] * 3))
    grid = padded.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, channels)
