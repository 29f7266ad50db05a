"""NIfTI volumes as stacks of pictures, or as they are; nibabel is imported when one is read."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from jaxseg_xai.core.errors import DataError, MissingExtraError
from jaxseg_xai.data.limits import GZIP_RATIO, check_promise
from jaxseg_xai.data.readers import guarded, split_name

Plane = Literal["axial", "coronal", "sagittal"]
#: Where rows, columns and slices run to: Left, Right, Anterior, Posterior, Superior, Inferior. The
#: patient's right is on the left, and the front in sagittal slices.
DIRECTIONS: dict[str, tuple[str, str, str]] = {
    "axial": ("P", "L", "S"),
    "coronal": ("I", "L", "A"),
    "sagittal": ("I", "P", "R"),
}
PLANES = get_args(Plane)
#: Two voxels are at the same place if they are no further apart, as a share of a voxel.
_SAME_PLACE = 0.05
#: Millimetres that are no place in a body.
_NOWHERE = 1e9
#: Units of length -> how many millimetres they have.
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


@dataclasses.dataclass(frozen=True)
class Volume:
    """The voxels of a file.

    Attributes:
      values: [*S] or, with channels, [*S, C], in the file's own numbers.
      affine: float64 [4, 4] from the indices along S to millimetres.
      colours: whether the channels are red, green and blue of 0 to 255.
    """

    values: np.ndarray
    affine: np.ndarray
    colours: bool = False


def spacing_of(affine: np.ndarray) -> tuple[float, ...]:
    """Millimetres per voxel of each axis."""
    return tuple(map(float, np.linalg.norm(affine[:3, :3], axis=0)))


def read_volume(path: Path, plane: Plane | None = "axial", like: Path | None = None) -> Volume:
    """A NIfTI volume in its own units.

    Args:
      path: its file.
      plane: turned so that [:, :, n] is slice n of this plane, as a radiologist sees it (the file's
        affine says which axis is which; oblique volumes are turned to the nearest axis). None: not
        turned, [z, y, x] for a file's x, y, z, as SimpleITK reads it.
      like: another file, the order of whose axes is taken where `plane` is None.

    Raises:
      DataError: the file cannot be read; one line with the file and the remedy.
    """
    return guarded(path, lambda: _read(path, _directions(like or path, plane)))


def read_labels(path: Path, plane: Plane | None = "axial", like: Path | None = None) -> np.ndarray:
    """A NIfTI label map, turned as `read_volume` does it.

    Numbers that a scale factor in the header has moved are whole again.
    """
    values = read_volume(path, plane, like).values
    step = guarded(path, lambda: _open(path).dataobj.slope)
    # nibabel stores floats as integers with a scale of its own: 1 comes back as 1.004.
    if values.dtype.kind == "f" and 0 < step < 0.5:
        whole = np.round(values)
        values = np.where(np.abs(values - whole) <= step / 2 * 1.001, whole, values)
    return values


def num_slices(path: Path, plane: Plane = "axial") -> int:
    """Number of slices of a plane, from the header alone."""
    return guarded(path, lambda: _grid(_open(path), DIRECTIONS[plane]))[0][2]


def check_same_grid(image: Path, other: Path, what: str = "label map") -> None:
    """Raise `DataError` unless the voxels of two NIfTI files lie in the same places.

    Axes may be stored in another order or direction. Places may differ by a twentieth of a voxel:
    headers hold them in 32 bits, and programs write them by two ways.
    """
    (one, here), (two, there) = (
        guarded(path, lambda p=path: _grid(_open(p), ("R", "A", "S"))) for path in (image, other)
    )
    if one != two:
        raise DataError(
            f"{other}: {'x'.join(map(str, two))} voxels, its image {image} "
            f"{'x'.join(map(str, one))}; resample the {what} onto the image's grid"
        )
    ends = np.array(one) - 1
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*ends, 1]
    apart = np.linalg.norm(corners @ (here - there).T, axis=1).max()
    if apart > _SAME_PLACE * min(spacing_of(here)):
        raise DataError(
            f"{other}: its voxels lie up to {apart:.3g} mm off those of {image}: origin, "
            f"spacing or direction differ; resample the {what} onto the image's grid"
        )


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    """Write a map [z, y, x] or [z, y, x, K] with the affine of its image, in the file's own order.

    Raises:
      MissingExtraError: without nibabel.
    """
    stored = values.astype(np.uint8) if values.dtype == bool else values
    image = _nibabel().Nifti1Image(np.swapaxes(stored, 0, 2), affine[:, [2, 1, 0, 3]])
    _nibabel().save(image, path)


def save_slices(path: Path, values: Sequence[np.ndarray], affines: Sequence[np.ndarray]) -> None:
    """Write maps [H, W] of slices of one volume as this volume; 0 where there is no slice.

    Args:
      path: the file.
      values: the maps.
      affines: of the slices, as `Sample` has them, float64 [4, 4].

    Raises:
      MissingExtraError: without nibabel.
    """
    step = affines[0][:3, 2]
    levels = [round(float((a - affines[0])[:3, 3] @ step / (step @ step))) for a in affines]
    lowest = int(np.argmin(levels))
    size = (max(levels) - levels[lowest] + 1, *values[0].shape)
    whole = np.zeros(size, np.uint8 if values[0].dtype == bool else values[0].dtype)
    for level, value in zip(levels, values, strict=True):
        whole[level - levels[lowest]] = value
    image = _nibabel().Nifti1Image(np.moveaxis(whole, 0, 2), affines[lowest])
    _nibabel().save(_nibabel().as_closest_canonical(image), path)


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise MissingExtraError("reading NIfTI images", "medical") from None
    return nibabel


def _open(path: Path) -> Any:
    """The nibabel image, its voxels not yet read, with a usable affine."""
    path.open("rb").close()  # nibabel takes one that it may not read for one of another kind
    # Read, not mapped: a file that somebody cuts off meanwhile would end the process.
    image: Any = _nibabel().load(path, mmap=False)
    # x, y, z, then time and vectors, of which one may be longer than 1.
    if len(image.shape) < 3 or sum(n > 1 for n in image.shape[3:]) > 1:
        raise DataError(
            f"{path}: a NIfTI image of shape {image.shape}; it must be 3-D, or 4-D with channels"
        )
    ratio = GZIP_RATIO if split_name(path)[1] == ".nii.gz" else 1
    check_promise(path, image.shape, 8 * image.get_data_dtype().itemsize, ratio)
    axes = image.affine[:3, :3]
    if not (np.abs(image.affine) < _NOWHERE).all() or (
        # Against the volume that the voxel would have with its axes at right angles.
        abs(np.linalg.det(axes)) <= 1e-6 * np.prod(np.linalg.norm(axes, axis=0))
    ):
        raise DataError(
            f"{path}: its affine does not say where the voxels lie (NaN, or an axis that is zero "
            "or along another); write the header again"
        )
    return image


def _directions(path: Path, plane: Plane | None) -> tuple[str, ...]:
    """Where the three axes run to."""
    if plane is not None:
        return DIRECTIONS[plane]
    return _nibabel().aff2axcodes(_open(path).affine)[::-1]


def _turn(image: Any, directions: tuple[str, ...]) -> np.ndarray:
    """nibabel's orientation that brings the axes of a file to run in these directions."""
    orientations = _nibabel().orientations
    return orientations.ornt_transform(
        orientations.io_orientation(image.affine), orientations.axcodes2ornt(directions)
    )


def _grid(image: Any, directions: tuple[str, ...]) -> tuple[tuple[int, ...], np.ndarray]:
    """Voxels along each axis and the affine, once the axes run in these directions."""
    turn, size = _turn(image, directions), image.shape[:3]
    affine = image.affine @ _nibabel().orientations.inv_ornt_aff(turn, size)
    affine[:3] *= _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    return tuple(size[i] for i in np.argsort(turn[:, 0])), affine


def _read(path: Path, directions: tuple[str, ...]) -> Volume:
    image = _open(path)
    values = np.asanyarray(image.dataobj)
    values = values.reshape(values.shape[:3] + tuple(n for n in values.shape[3:] if n > 1))
    colours = bool(values.dtype.names)
    if values.dtype.names:
        values = np.stack([values[name] for name in values.dtype.names if name in "RGB"], axis=-1)
    values = _nibabel().orientations.apply_orientation(values, _turn(image, directions))
    return Volume(values=values, affine=_grid(image, directions)[1], colours=colours)
