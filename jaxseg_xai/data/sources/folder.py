"""Images (and label maps) from a folder: PNG, JPEG, TIFF, NPZ, NIfTI."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data import nifti, readers
from jaxseg_xai.data.checks import (
    Window,
    apply_window,
    check_image,
    check_index,
    check_labels,
    check_window,
    scale_integers,
    to_float,
)


class FolderDataset:
    """A folder of images, `root/*`, or `root/images/*` with label maps `root/labels/*`.

    Opening lists the files and reads NIfTI headers; pixels are read item by item, so that one bad
    file fails one item. Hidden files are ignored; a file of another type is an item that fails.

    Values. Integers of PNG, JPEG and TIFF, and unsigned ones of NPZ, are divided by the largest
    value of their dtype (u8 / 255, u16 / 65535); other NPZ arrays are taken as they are. NIfTI is
    mapped from the 0.5 to 99.5 percentile of its finite voxels to [0, 1] and clipped. With `window`
    all formats are mapped from [lo, hi] (in the file's own numbers) to [0, 1] and clipped.

    Channels. Gray images have one; palette images become RGB; an opaque alpha channel is dropped,
    transparency is an error. Each axial slice of a NIfTI file is an item, anterior up, the
    patient's right on the left; a fourth axis gives channels.

    Label maps have the stem of their image and hold one class index a pixel (of a palette image,
    its index): PNG, TIFF, NPZ (array `label`, or the only one), or for NIfTI images NIfTI. Without
    a folder of label maps, an NPZ file may hold `label` beside `image`.

    Attributes:
      class_names: as given, or ().
      ids: the stem of the file; "stem#017" for slice 17 (from the bottom) of a NIfTI file.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        labels: str | os.PathLike[str] | None = None,
        window: Window | None = None,
        class_names: Sequence[str] | None = None,
        channels: int | None = None,
        read_labels: bool = True,
    ) -> None:
        """List the folder.

        Args:
          root: the folder.
          labels: folder of the label maps; None: `root/labels` if that and `root/images` exist.
          window: (lo, hi), see above.
          class_names: the classes in the order of the label values; None: the range of the labels
            is not checked.
          channels: number of channels that every image must have; None: any.
          read_labels: False: items come without label maps, whether there are any or not.

        Raises:
          DataError: no such folder, no image in it, two images with one stem.
          ConfigError: a bad window.
        """
        self.class_names: tuple[str, ...] = tuple(class_names or ())
        self._window, self._channels = check_window(window), channels
        self._read_labels = read_labels
        folder = Path(root)
        if (folder / "images").is_dir():
            if labels is None and (folder / "labels").is_dir():
                labels = folder / "labels"
            folder = folder / "images"
        # (id, file, slice or None); the slice of a NIfTI file with a broken header is None.
        self._items = [item for path in _list_images(folder) for item in _items_of(path)]
        self._label_files = None if labels is None else _by_stem(_list_files(Path(labels)))
        self._labels_folder = labels
        self.ids: Sequence[str] = tuple(name for name, _, _ in self._items)
        self._last_volume: tuple[Path, np.ndarray] | None = None
        self._last_labels: tuple[Path, np.ndarray] | None = None

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read item `index`: image float32 [H, W, C], labels int32 [H, W] or None.

        Raises:
          DataError: the item cannot be used; one line with the file and the remedy.
        """
        name, path, level = self._items[check_index(index, len(self))]
        suffix = readers.split_name(path)[1]
        label = str(path) if level is None else f"{path}#{level:03d}"
        if suffix in readers.NIFTI:
            image = self._slice(path, level)
        else:
            image = self._scale(readers.read_image(path), suffix, label)
        image = check_image(image, label, self._channels)
        labels = self._labels(path, level, image.shape[:2]) if self._read_labels else None
        return Sample(id=name, image=image, labels=labels)

    def _scale(self, raw: np.ndarray, suffix: str, name: str) -> np.ndarray:
        if self._window is not None:
            return _keep_non_finite(raw, apply_window(to_float(raw, name), self._window))
        # Arrays of signed integers or floats are measurements (CT), not shades of a picture.
        as_it_is = suffix in readers.NPZ and raw.dtype.kind != "u"
        return to_float(raw, name) if as_it_is else scale_integers(raw, name)

    def _slice(self, path: Path, level: int | None) -> np.ndarray:
        """Slice `level` of a NIfTI image, float32 [H, W] or [H, W, C], scaled."""
        # Neighbouring slices are read one after the other: the last volume is kept.
        if self._last_volume is None or self._last_volume[0] != path:
            volume = to_float(nifti.read_volume(path), str(path))
            window = self._window or _percentiles(volume)
            if window is not None:
                volume = _keep_non_finite(volume, apply_window(volume, window))
            self._last_volume = (path, volume)
        volume = self._last_volume[1]
        if level is None or level >= volume.shape[2]:
            raise DataError(f"{path}: changed since the folder was opened; open it again")
        return volume[:, :, level]

    def _labels(self, path: Path, level: int | None, size: tuple[int, int]) -> np.ndarray | None:
        stem, suffix = readers.split_name(path)
        if self._label_files is None:
            raw = readers.read_npz_labels(path) if suffix in readers.NPZ else None
            return None if raw is None else check_labels(raw, str(path), size, self.class_names)
        found = self._label_files.get(stem, [])
        if len(found) != 1:
            raise DataError(
                f"{path}: {len(found) or 'no'} label maps named {stem}.* in {self._labels_folder};"
                " there must be exactly one"
            )
        file = found[0]
        is_volume = readers.split_name(file)[1] in readers.NIFTI
        if is_volume != (level is not None):
            raise DataError(f"{file}: a NIfTI image needs a NIfTI label map, other images do not")
        if level is None:
            return check_labels(readers.read_labels(file), str(file), size, self.class_names)
        if self._last_labels is None or self._last_labels[0] != file:
            self._last_labels = (file, nifti.read_volume(file))
        volume = self._last_labels[1]
        if level >= volume.shape[2]:
            raise DataError(f"{file}: {volume.shape[2]} slices, fewer than its image; resample it")
        return check_labels(volume[:, :, level], f"{file}#{level:03d}", size, self.class_names)


def _list_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path")
    files = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in files if path.is_file())


def _list_images(folder: Path) -> list[Path]:
    """The files of a folder that has at least one image; no two images may share a stem."""
    files = _list_files(folder)
    images = [path for path in files if readers.split_name(path)[1] in readers.SUFFIXES]
    if not images:
        raise DataError(
            f"{folder}: no image in the folder; supported: {' '.join(readers.SUFFIXES)}"
        )
    for same in _by_stem(images).values():
        if len(same) > 1:
            raise DataError(f"{same[0]}: {same[1].name} has the same stem; rename one of them")
    # A file of another type may share its stem with an image; its id is then its whole name.
    return files


def _by_stem(files: list[Path]) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = {}
    for path in files:
        stems.setdefault(readers.split_name(path)[0], []).append(path)
    return stems


def _items_of(path: Path) -> list[tuple[str, Path, int | None]]:
    stem, suffix = readers.split_name(path)
    if suffix not in readers.SUFFIXES:
        return [(path.name, path, None)]
    if suffix not in readers.NIFTI:
        return [(stem, path, None)]
    try:
        return [(f"{stem}#{level:03d}", path, level) for level in range(nifti.num_slices(path))]
    except DataError:
        # Reading the item will say what is wrong.
        return [(stem, path, None)]


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
