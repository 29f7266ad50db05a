"""NIfTI volumes as stacks of axial pictures; nibabel is imported when the first one is read."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import DataError, MissingExtraError
from jaxseg_xai.data.readers import guarded


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


def _nifti_header(path: Path) -> tuple[Any, int]:
    """The nibabel image, its voxels not yet read, and the number of axial slices."""
    try:
        import nibabel
    except ImportError:
        raise MissingExtraError("reading NIfTI images", "medical") from None
    image: Any = nibabel.load(path)
    if len(image.shape) not in (3, 4):
        raise DataError(f"{path}: a NIfTI image of shape {image.shape}; it must be 3-D or 4-D")
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
