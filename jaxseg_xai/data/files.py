"""Samples out of image files: which items a file holds, and their pixels and labels, scaled."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.data import nifti, readers
from jaxseg_xai.data.checks import (
    Window,
    apply_window,
    check_labels,
    check_window,
    scale_integers,
    to_float,
)


def name_of(path: Path) -> str:
    """The id of a file's item, or what those of its slices begin with."""
    stem, suffix = readers.split_name(path)
    return stem if suffix in readers.SUFFIXES else path.name


def items_of(path: Path) -> list[tuple[str, int | None]]:
    """What a file holds: (id, slice), one per axial slice of a NIfTI file, else one.

    The slice is None where a file is one image, and where the header of a NIfTI file is broken.
    """
    name = name_of(path)
    if readers.split_name(path)[1] not in readers.NIFTI:
        return [(name, None)]
    try:
        return [(f"{name}#{level:03d}", level) for level in range(nifti.num_slices(path))]
    except DataError:
        # Reading the item will say what is wrong.
        return [(name, None)]


def item_name(path: Path, level: int | None) -> str:
    """What an error message calls an item."""
    return str(path) if level is None else f"{path}#{level:03d}"


class FileReader:
    """Reads images and label maps; how values are scaled is told at `FolderDataset`.

    Neighbouring slices are read one after the other: the last volume is kept.
    """

    def __init__(self, window: Window | None = None) -> None:
        """Read with a window (lo, hi), or as the formats say; `ConfigError` for a bad window."""
        self._window = check_window(window)
        self._last_volume: tuple[Path, np.ndarray] | None = None
        # Of an image and its label map: another image is checked against it anew.
        self._last_labels: tuple[tuple[Path, Path], np.ndarray] | None = None

    def image(self, path: Path, level: int | None) -> np.ndarray:
        """An image file, or an axial slice of a NIfTI file: float32 [H, W] or [H, W, C], scaled.

        Raises:
          DataError: the item cannot be read; one line with the file and the remedy.
        """
        suffix = readers.split_name(path)[1]
        if suffix in readers.NIFTI:
            return self._slice(path, level)
        (raw, white), name = readers.read_image(path), item_name(path, level)
        if self._window is not None:
            return _keep_non_finite(raw, apply_window(to_float(raw, name), self._window))
        # Arrays of signed integers or floats are measurements (CT), not shades of a picture.
        as_it_is = suffix in readers.NPZ and raw.dtype.kind != "u"
        return to_float(raw, name) if as_it_is else scale_integers(raw, name, white=white)

    def labels(
        self,
        path: Path,
        image: Path,
        level: int | None,
        size: Sequence[int],
        class_names: Sequence[str],
    ) -> np.ndarray:
        """The labels in a file, as `check_labels` returns them.

        Args:
          path: their file.
          image: the file of their image.
          level: the slice of a NIfTI image.
          size: (H, W) of the image.
          class_names: the classes; an empty sequence leaves the range unchecked.

        Raises:
          DataError: they cannot be read, or do not fit the image or the classes.
        """
        is_volume = readers.split_name(path)[1] in readers.NIFTI
        if is_volume != (level is not None):
            raise DataError(f"{path}: a NIfTI image needs a NIfTI label map, other images do not")
        if level is None:
            return check_labels(readers.read_labels(path), str(path), size, class_names)
        if self._last_labels is None or self._last_labels[0] != (image, path):
            nifti.check_same_grid(image, path)
            self._last_labels = ((image, path), nifti.read_volume(path))
        volume = self._last_labels[1]
        return check_labels(volume[:, :, level], item_name(path, level), size, class_names)

    def _slice(self, path: Path, level: int | None) -> np.ndarray:
        if self._last_volume is None or self._last_volume[0] != path:
            volume = to_float(nifti.read_volume(path), str(path))
            self._last_volume = (path, self._scaled(volume))
        volume = self._last_volume[1]
        if level is None or level >= volume.shape[2]:
            raise DataError(f"{path}: changed since the folder was opened; open it again")
        return volume[:, :, level]

    def _scaled(self, volume: np.ndarray) -> np.ndarray:
        """A volume [H, W, Z] or [H, W, Z, C] in [0, 1]; each contrast has a range of its own."""
        if volume.ndim == 4 and self._window is None:
            each = [self._scaled(volume[..., k]) for k in range(volume.shape[-1])]
            return np.stack(each, axis=-1)
        window = self._window or _percentiles(volume)
        return volume if window is None else _keep_non_finite(volume, apply_window(volume, window))


def _percentiles(volume: np.ndarray) -> Window | None:
    """The 0.5 and 99.5 percentile of the finite voxels, or None where they coincide."""
    finite = volume[np.isfinite(volume)]
    if finite.size == 0:
        return None
    lo, hi = (float(edge) for edge in np.percentile(finite, (0.5, 99.5)))
    return (lo, hi) if lo < hi else None


def _keep_non_finite(raw: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Clipping would hide an infinity: put it back, so that the check finds it."""
    return np.where(np.isfinite(raw), scaled, np.float32(np.nan)).astype(np.float32)
