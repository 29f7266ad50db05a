"""NIfTI volumes as stacks of axial pictures; nibabel is imported when the first one is read."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import DataError, MissingExtraError
from jaxseg_xai.data.readers import guarded

#: Two voxels are at the same place if they are no further apart, as a share of a voxel.
_SAME_PLACE = 0.05


def read_volume(path: Path) -> np.ndarray:
    """A NIfTI volume in its own units, turned so that slice [:, :, z] is an axial picture.

    Rows run from front to back, columns from the patient's right to the left, z upwards (the
    file's affine says which axis is which; oblique volumes are turned to the nearest axis).

    Returns:
      [H, W, Z] or, with channels, [H, W, Z, C].
    """
    return guarded(path, lambda: _nifti_volume(path))


def num_slices(path: Path) -> int:
    """Number of axial slices of a NIfTI file, from its header alone."""
    return guarded(path, lambda: _nifti_header(path)[1])


def check_same_grid(image: Path, labels: Path) -> None:
    """Raise `DataError` unless the voxels of two NIfTI files lie in the same places.

    Axes may be stored in another order or direction. Places may differ by a twentieth of a voxel:
    headers hold them in 32 bits, and programs write them by two ways.
    """
    (one, here), (other, there) = (
        guarded(path, lambda p=path: _grid(p)) for path in (image, labels)
    )
    if one != other:
        raise DataError(
            f"{labels}: {'x'.join(map(str, other))} voxels, its image {image} "
            f"{'x'.join(map(str, one))}; resample the label map onto the image's grid"
        )
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*(np.array(one) - 1), 1]
    voxel = np.linalg.norm(here[:3, :3], axis=0).min()
    apart = np.linalg.norm(corners @ (here - there).T, axis=1).max()
    if apart > _SAME_PLACE * voxel:
        raise DataError(
            f"{labels}: its voxels lie up to {apart:.3g} mm off those of {image}: origin, "
            "spacing or direction differ; resample the label map onto the image's grid"
        )


def _grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Voxels along each axis and the affine, both in canonical order; no voxel is read."""
    from nibabel.funcs import as_closest_canonical

    image: Any = as_closest_canonical(_nifti_header(path)[0])
    return image.shape[:3], image.affine


def _nifti_header(path: Path) -> tuple[Any, int]:
    """The nibabel image, its voxels not yet read, and the number of axial slices."""
    try:
        import nibabel
    except ImportError:
        raise MissingExtraError("reading NIfTI images", "medical") from None
    image: Any = nibabel.load(path)
    if len(image.shape) not in (3, 4):
        raise DataError(f"{path}: a NIfTI image of shape {image.shape}; it must be 3-D or 4-D")
    axes = image.affine[:3, :3]
    if not np.isfinite(image.affine).all() or (
        # Against the volume that the voxel would have with its axes at right angles.
        abs(np.linalg.det(axes)) <= 1e-6 * np.prod(np.linalg.norm(axes, axis=0))
    ):
        raise DataError(
            f"{path}: its affine does not say where the voxels lie (NaN, or an axis that is zero "
            "or along another); write the header again"
        )
    orientation = nibabel.orientations.io_orientation(image.affine)
    upwards = int(np.flatnonzero(orientation[:, 0] == 2)[0])
    return image, int(image.shape[upwards])


def _nifti_volume(path: Path) -> np.ndarray:
    header = _nifti_header(path)[0]
    from nibabel.funcs import as_closest_canonical

    image: Any = as_closest_canonical(header)
    # Canonical axes are x to the patient's right, y to the front, z up.
    volume = np.asanyarray(image.dataobj)
    return np.swapaxes(volume[::-1, ::-1], 0, 1)
