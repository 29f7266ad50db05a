"""Images (and label maps) from a folder: PNG, JPEG, GIF, TIFF, NPZ, NIfTI."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data import readers
from jaxseg_xai.data.checks import (
    SPLITS,
    Window,
    check_image,
    check_index,
    check_split,
    labels_or_error,
)
from jaxseg_xai.data.files import FileReader, item_name
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.nifti import Plane
from jaxseg_xai.data.pairs import tell_left_out


class FolderDataset:
    """A folder of images, `root/*`, or `root/images/*` with label maps `root/labels/*`.

    Opening lists the files and reads NIfTI headers; pixels are read item by item, so that one bad
    file fails one item. Hidden files and those of Windows are ignored; a file of another type is an
    item that fails. Broken links and images in sub-folders are left out; a warning says so.

    Values. Integers of PNG, JPEG, GIF, TIFF, and unsigned ones of NPZ, are divided by the largest
    value of their dtype (u8 / 255, u16 / 65535; of a 12-bit TIFF 4095); other NPZ arrays are taken
    as they are. NIfTI is mapped from the 0.5 to 99.5 percentile of its finite voxels (of each
    contrast by itself) to [0, 1] and clipped. With `window` all formats are mapped from [lo, hi],
    in the file's own numbers, to [0, 1] and clipped.

    Pictures are what a viewer shows: turned by the camera's orientation (EXIF), palettes and CMYK
    as RGB, "white is zero" put right; an opaque alpha channel is dropped, transparency is an error.

    Volumes. Each axial slice of a NIfTI file is an item, anterior up, the patient's right on the
    left; `plane` chooses others (coronal and sagittal: superior up, sagittal: anterior on the
    left). With `rank` 3 each file is one volume [z, y, x], not turned, as SimpleITK reads it. A
    fourth axis gives channels. Spacing and affine come with the sample.

    Label maps have the stem of their image and hold one class index a pixel (of a palette image,
    its index): PNG, TIFF, NPZ (array `label`, or the only one), or for NIfTI images NIfTI on the
    same grid (affine and shape; the order of the axes does not matter). Without a folder of label
    maps, an NPZ file may hold `label` beside `image`. An NPZ array of bool [H, W, K] holds one
    plane a class, for classes that may overlap.

    Attributes:
      class_names: as given, or ().
      ids: the stem of the file; "stem#017" for slice 17 (from the bottom) of a NIfTI file, whose
        group is "stem".
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str | None = None,
        labels: str | os.PathLike[str] | None = None,
        window: Window | None = None,
        class_names: Sequence[str] | None = None,
        channels: int | None = None,
        rank: int = 2,
        plane: Plane = "axial",
        raw: bool = False,
        read_labels: bool = True,
        label_values: LabelValues | None = None,
    ) -> None:
        """List the folder.

        Args:
          root: the folder.
          split: "train", "validation" or "test": the sub-folder of this name, if there is one for
            any of the three. Any other folder is one data set whatever `split` says.
          labels: folder of the label maps; None: `root/labels` if that and `root/images` exist.
          window: (lo, hi), see above.
          class_names: the classes in the order of the label values; None: the range of the labels
            is not checked.
          channels: number of channels that every image must have; None: any.
          rank: 2 for pictures and slices of NIfTI files, 3 for volumes (NIfTI, or NPZ arrays).
          plane: of the slices: "axial", "coronal" or "sagittal".
          raw: whether NIfTI files and NPZ arrays keep their own numbers.
          read_labels: False: items come without label maps, whether there are any or not.
          label_values: what the values of the label maps mean; None: classes.

        Raises:
          DataError: no such folder, no image in it, two images with one stem, or only other splits.
          ConfigError: a bad window, rank or plane, a window for raw numbers, or another split.
        """
        self.class_names: tuple[str, ...] = tuple(class_names or ())
        self._channels, self._rank, self._read_labels = channels, rank, read_labels
        self._reader = FileReader(
            window, rank=rank, plane=plane, raw=raw, label_values=label_values
        )
        folder = Path(root).expanduser()
        if split is not None:
            folder = _split_of(folder, split)
        if (folder / "images").is_dir():
            if labels is None and (folder / "labels").is_dir():
                labels = folder / "labels"
            folder = folder / "images"
        # (id, file, slice or None)
        self._items = [
            (name, path, level)
            for path in _list_images(folder)
            for name, level in self._reader.items_of(path)
        ]
        self._label_files = None if labels is None else _by_stem(_list_files(Path(labels)))
        _tell_left_out(folder, None if labels is None else Path(labels))
        self._labels_folder = labels
        self.ids: Sequence[str] = tuple(name for name, _, _ in self._items)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read item `index`: image float32 [*S, C], labels, or why they cannot be used.

        Raises:
          DataError: the image cannot be used; one line with the file and the remedy.
        """
        name, path, level = self._items[check_index(index, len(self))]
        scan = self._reader.image(path, level)
        image = check_image(scan.image, item_name(path, level), self._channels, self._rank)
        return Sample(
            id=name,
            image=image,
            **labels_or_error(lambda: self._labels(path, level, image.shape[:-1])),
            group="" if level is None else readers.split_name(path)[0],
            spacing=scan.spacing,
            affine=scan.affine,
        )

    def files(self, index: int) -> list[Path]:
        """The files that item `index` is read from."""
        path = self._items[index][1]
        known = (self._label_files or {}) if self._read_labels else {}
        return [path, *known.get(readers.split_name(path)[0], [])]

    def _labels(self, path: Path, level: int | None, size: tuple[int, ...]) -> np.ndarray | None:
        if not self._read_labels:
            return None
        stem, suffix = readers.split_name(path)
        if self._label_files is None:
            raw = readers.read_npz_labels(path) if suffix in readers.NPZ else None
            if raw is None:
                return None
            return self._reader.checked(raw, str(path), size, self.class_names)
        found = self._label_files.get(stem, [])
        if len(found) != 1:
            raise DataError(
                f"{path}: {len(found) or 'no'} label maps named {stem}.* in {self._labels_folder};"
                " there must be exactly one"
            )
        return self._reader.labels(found[0], path, level, size, self.class_names)


def _split_of(folder: Path, split: str) -> Path:
    check_split(split)
    existing = [name for name in SPLITS if (folder / name).is_dir()]
    if not existing:
        return folder
    if split not in existing:
        raise DataError(f"{folder}: no split {split!r}, only {', '.join(existing)}; choose another")
    return folder / split


def _list_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path")
    try:
        return sorted(path for path in folder.iterdir() if path.is_file() and not _of_system(path))
    except PermissionError:
        raise DataError(f"{folder}: no permission to list it; ask for it (chmod u+rx)") from None


def _of_system(path: Path) -> bool:
    """Whether it is hidden, or one of those that Windows puts into folders of pictures."""
    name = path.name.lower()
    return name.startswith(".") or name in ("thumbs.db", "ehthumbs.db", "desktop.ini")


def _tell_left_out(folder: Path, labels: Path | None) -> None:
    """Say what looks like images but is not read: broken links, sub-folders beside the labels'."""
    found = sorted(path for path in folder.iterdir() if not _of_system(path))
    broken = [path.name for path in found if path.is_symlink() and not path.exists()]
    below = [
        path.name
        for path in found
        if path.is_dir() and not (labels and path.samefile(labels)) and _holds_images(path)
    ]
    tell_left_out(folder, "broken links", broken)
    tell_left_out(folder, "sub-folders with images", below)


def _holds_images(folder: Path) -> bool:
    try:
        return any(readers.split_name(path)[1] in readers.SUFFIXES for path in folder.iterdir())
    except OSError:
        return False


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
