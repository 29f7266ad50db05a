"""Samples out of image files: which items a file holds, and their pixels and labels, scaled."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.data import nifti, readers
from jaxseg_xai.data.checks import (
    Window,
    apply_window,
    check_labels,
    check_window,
    scale_integers,
    to_float,
)
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.nifti import Plane, Volume


@dataclasses.dataclass(frozen=True)
class Scan:
    """The image of an item.

    Attributes:
      image: float32 [*S] or [*S, C], scaled.
      spacing: millimetres per pixel of each axis, where the file says it.
      affine: float64 [4, 4] from (row, column, 0) of a slice, or the indices of a volume, to
        millimetres.
    """

    image: np.ndarray
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None


def name_of(path: Path) -> str:
    """The id of a file's item, or what those of its slices begin with."""
    stem, suffix = readers.split_name(path)
    return stem if suffix in readers.SUFFIXES else path.name


def is_nifti(path: Path) -> bool:
    """Whether it is called so."""
    return readers.split_name(path)[1] in readers.NIFTI


def item_name(path: Path, level: int | None) -> str:
    """What an error message calls an item."""
    return str(path) if level is None else f"{path}#{level:03d}"


class FileReader:
    """Reads images and label maps; how values are scaled is told at `FolderDataset`.

    Neighbouring slices are read one after the other: the last volume is kept.
    """

    def __init__(
        self,
        window: Window | None = None,
        *,
        rank: int = 2,
        plane: Plane = "axial",
        raw: bool = False,
        label_values: LabelValues | None = None,
    ) -> None:
        """Say how files are read.

        Args:
          window: (lo, hi), or as the formats say.
          rank: 2 reads NIfTI files slice by slice, 3 as volumes [z, y, x].
          plane: of the slices.
          raw: whether volumes keep the numbers of their file.
          label_values: what the values of label maps mean; None: classes.

        Raises:
          ConfigError: a bad window, rank or plane, or a window for raw numbers.
        """
        if rank not in (2, 3) or plane not in nifti.PLANES:
            raise ConfigError(
                f"rank={rank}, plane={plane!r}: give 2 for slices or 3 for volumes, and one of "
                f"{', '.join(nifti.PLANES)}"
            )
        self._window, self._values = check_window(window), label_values or LabelValues()
        if raw and window is not None:
            raise ConfigError(
                f"window={window}: the model takes the numbers of the file; leave window out"
            )
        self._rank, self._raw = rank, raw
        self._plane: Plane = plane
        self._last_volume: tuple[Path, Volume] | None = None
        # Of an image and its label map: another image is checked against it anew.
        self._last_labels: tuple[tuple[Path, Path], np.ndarray] | None = None

    def items_of(self, path: Path) -> list[tuple[str, int | None]]:
        """What a file holds: (id, slice), one per slice of a NIfTI file, else one.

        The slice is None where a file is one image, and where the header of a NIfTI file is broken.
        """
        name = name_of(path)
        if not is_nifti(path) or self._rank == 3:
            return [(name, None)]
        try:
            count = nifti.num_slices(path, self._plane)
        except DataError:
            # Reading the item will say what is wrong.
            return [(name, None)]
        return [(f"{name}#{level:03d}", level) for level in range(count)]

    def image(self, path: Path, level: int | None) -> Scan:
        """An image file, a slice of a NIfTI file, or all of it.

        Raises:
          DataError: the item cannot be read; one line with the file and the remedy.
        """
        if is_nifti(path):
            return self._whole(path) if self._rank == 3 else self._slice(path, level)
        (raw, white), name = readers.read_image(path), item_name(path, level)
        if self._window is not None:
            return Scan(_keep_non_finite(raw, apply_window(to_float(raw, name), self._window)))
        # Arrays of signed integers or floats are measurements (CT), not shades of a picture.
        is_array = readers.split_name(path)[1] in readers.NPZ
        as_it_is = is_array and (raw.dtype.kind != "u" or self._raw)
        return Scan(to_float(raw, name) if as_it_is else scale_integers(raw, name, white=white))

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
          size: S of the image.
          class_names: the classes; an empty sequence leaves the range unchecked.

        Raises:
          DataError: they cannot be read, or do not fit the image or the classes.
        """
        if is_nifti(path) != is_nifti(image):
            raise DataError(f"{path}: a NIfTI image needs a NIfTI label map, other images do not")
        if not is_nifti(path):
            return self.checked(self._raw_labels(path), str(path), size, class_names)
        if self._rank == 3:
            nifti.check_same_grid(image, path)
            volume = nifti.read_labels(path, None, like=image)
            return self.checked(volume, str(path), size, class_names)
        if self._last_labels is None or self._last_labels[0] != (image, path):
            nifti.check_same_grid(image, path)
            self._last_labels = ((image, path), nifti.read_labels(path, self._plane))
        found = self._last_labels[1][:, :, level].copy()
        return self.checked(found, item_name(path, level), size, class_names)

    def checked(
        self, raw: np.ndarray, name: str, size: Sequence[int], class_names: Sequence[str]
    ) -> np.ndarray:
        """The labels in the numbers of a file, as `check_labels` returns them."""
        found = self._values.numbers(raw, name) if self._values.of_pictures else raw
        return check_labels(found, name, size, class_names, self._values)

    def _raw_labels(self, path: Path) -> np.ndarray:
        suffix = readers.split_name(path)[1]
        if self._values.of_pictures and suffix in (*readers.PILLOW, *readers.TIFF):
            return readers.read_image(path).values
        if suffix in (".jpg", ".jpeg"):
            raise DataError(
                f"{path}: JPEG changes the numbers of a label map; save it as PNG, or set "
                "labels.threshold for a mask of one class"
            )
        return readers.read_labels(path)

    def _slice(self, path: Path, level: int | None) -> Scan:
        if self._last_volume is None or self._last_volume[0] != path:
            self._last_volume = (path, self._scaled(path, self._plane))
        volume = self._last_volume[1]
        if level is None or level >= volume.values.shape[2]:
            raise DataError(f"{path}: changed since the folder was opened; open it again")
        affine = volume.affine.copy()
        affine[:, 3] += level * affine[:, 2]
        spacing = nifti.spacing_of(affine)[:2]
        return Scan(volume.values[:, :, level].copy(), spacing, affine)

    def _whole(self, path: Path) -> Scan:
        volume = self._scaled(path, None)
        return Scan(volume.values, nifti.spacing_of(volume.affine), volume.affine)

    def _scaled(self, path: Path, plane: Plane | None) -> Volume:
        """A volume; each contrast has a range of its own."""
        volume = nifti.read_volume(path, plane)
        values = to_float(volume.values, str(path))
        window = (0.0, 255.0) if volume.colours and self._window is None else self._window
        if not self._raw:
            if values.ndim == 4 and window is None:
                each = [in_window(values[..., k], None) for k in range(values.shape[-1])]
                values = np.stack(each, axis=-1)
            else:
                values = in_window(values, window)
        return dataclasses.replace(volume, values=values)


def in_window(values: np.ndarray, window: Window | None) -> np.ndarray:
    """From the window, or the 0.5 to 99.5 percentile of the finite voxels, to [0, 1].

    As they are where the percentiles coincide.
    """
    if window is None:
        finite = values[np.isfinite(values)]
        lo, hi = map(float, np.percentile(finite, (0.5, 99.5))) if finite.size else (0.0, 0.0)
        if lo >= hi:
            return values
        window = (lo, hi)
    return _keep_non_finite(values, apply_window(values, window))


def _keep_non_finite(raw: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Clipping would hide an infinity: put it back, so that the check finds it."""
    return np.where(np.isfinite(raw), scaled, np.float32(np.nan)).astype(np.float32)
