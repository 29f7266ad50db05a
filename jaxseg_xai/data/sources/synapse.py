"""Synapse multi-organ CT as TransUNet has prepared it: slices to train on, volumes to test."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError, MissingExtraError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data import readers
from jaxseg_xai.data.checks import (
    check_image,
    check_index,
    check_labels,
    check_split,
    labels_or_error,
    to_float,
)
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.limits import GZIP_RATIO, check_promise
from jaxseg_xai.data.pairs import files_of, inside, read_text, unique

CLASS_NAMES = (
    *("background", "aorta", "gallbladder", "left kidney", "right kidney"),
    *("liver", "pancreas", "spleen", "stomach"),
)
_SLICES, _VOLUMES = ".npz", ".npy.h5"
#: Where TransUNet's code keeps the lists of a split; what it lists is all that there is.
_LISTS = (Path("lists", "lists_Synapse"), Path("lists_Synapse"))


class SynapseDataset:
    """Synapse multi-organ CT as TransUNet has prepared it: abdomen, 8 organs.

    Values are those of the files: -125 to 275 Hounsfield units as 0 to 1. The split "train" are the
    slices of 18 cases; "validation" and "test" are the volumes of 12 others, each slice an item, or
    with `rank` 3 each volume.

    Attributes:
      class_names: "background" and the 8 organs, in TransUNet's order.
      ids: "case0005_slice000" of train, "case0008#017" for slice 17 of a volume, "case0008" of
        volumes; the group is the case.

    References:
      Chen et al., TransUNet, arXiv 2102.04306; Landman et al., MICCAI 2015 challenge "Multi-atlas
      labeling beyond the cranial vault".
    """

    layout: ClassVar[str] = (
        "Synapse with train_npz/case0005_slice000.npz (image, label [H, W]) and "
        "test_vol_h5/case0008.npy.h5 (image, label [D, H, W]); perhaps lists_Synapse/train.txt, "
        "test_vol.txt"
    )
    licence: ClassVar[str] = "terms of use of synapse.org, after registration (syn3193805)"
    homepage: ClassVar[str] = "https://github.com/Beckschen/TransUNet"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str = "test",
        rank: int = 2,
        read_labels: bool = True,
        label_values: LabelValues | None = None,
    ) -> None:
        """List the items.

        Args:
          root: the folder that has train_npz and test_vol_h5.
          split: "train", "validation" or "test".
          rank: 2 for slices, 3 for volumes.
          read_labels: False: items come without labels.
          label_values: what the numbers of the labels mean, of copies in which they stand for other
            organs; None: TransUNet's.

        Raises:
          DataError: there is no file, or one of a list is missing.
          ConfigError: another split or rank, or volumes of the split train.
          MissingExtraError: h5py is absent, which reads the volumes.
        """
        check_split(split)
        if rank not in (2, 3) or (rank == 3 and split == "train"):
            raise ConfigError(
                f"rank={rank}, split={split!r}: train_npz has slices (rank 2), test_vol_h5 volumes "
                "(rank 2 or 3); choose another split"
            )
        root = Path(root).expanduser()
        self.class_names: tuple[str, ...] = CLASS_NAMES
        self._rank, self._wanted, self._values = rank, read_labels, label_values
        if split == "train":
            files = _files(root, "train_npz", _SLICES, "train.txt")
        else:
            files = _files(root, "test_vol_h5", _VOLUMES, "test_vol.txt")
            _h5py()
        # (id, case, file, slice or None)
        self._items = [item for name, path in files for item in self._items_of(name, path)]
        self.ids = tuple(name for name, _, _, _ in self._items)

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        return (folder / "train_npz").is_dir() or (folder / "test_vol_h5").is_dir()

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read item `index`: image float32 [*S, 1] in [0, 1], labels, or why they are unusable.

        Raises:
          DataError: the image cannot be used; one line with the file and the remedy.
        """
        name, case, path, level = self._items[check_index(index, len(self))]
        told = f"{path}#{level:03d}" if level is not None else str(path)
        image = check_image(to_float(_array(path, "image", level), told), told, 1, self._rank)

        def labels() -> np.ndarray:
            found = _array(path, "label", level)
            return check_labels(found, told, image.shape[:-1], CLASS_NAMES, self._values)

        found = labels_or_error(labels) if self._wanted else {}
        return Sample(id=name, image=image, group=case, **found)

    def files(self, index: int) -> list[Path]:
        """The files that item `index` is read from."""
        return [self._items[index][2]]

    def _items_of(self, name: str, path: Path) -> Iterator[tuple[str, str, Path, int | None]]:
        """What a file holds: a slice, a volume, or its slices."""
        case = name.split("_")[0]
        if path.name.endswith(_SLICES) or self._rank == 3:
            yield name, case, path, None
            return
        try:
            depth = readers.guarded(path, lambda: _depth(path))
        except DataError:  # reading the item will say what is wrong
            yield name, case, path, None
            return
        for level in range(depth):
            yield f"{name}#{level:03d}", case, path, level


def _files(root: Path, folder: str, ending: str, listed: str) -> list[tuple[str, Path]]:
    """Name and file of each item of a split: of its list, or else all there are."""
    remedy = f"root is the folder that has {folder}, as TransUNet's code wants it"
    lists = [root / place / listed for place in _LISTS if (root / place / listed).is_file()]
    if not lists:
        files = files_of(root / folder, f"*{ending}", remedy)
        return [(path.name.removesuffix(ending), path) for path in files]
    names = read_text(lists[0], remedy).split()
    unique(names, lists[0])
    if not names:
        raise DataError(f"{lists[0]}: lists no item; take the list of TransUNet's code")
    return [(name, inside(root / folder, f"{name}{ending}", lists[0])) for name in names]


def _array(path: Path, key: str, level: int | None) -> np.ndarray:
    """An array of a file, or a slice of it."""
    if path.name.endswith(_SLICES):
        return readers.read_npz(path, key)
    return readers.guarded(path, lambda: _read_h5(path, key, level))


def _read_h5(path: Path, key: str, level: int | None) -> np.ndarray:
    with _h5py().File(path, "r") as file:
        if key not in file:
            raise DataError(f"{path}: no array {key!r} among {sorted(file)}; rename or add it")
        found = file[key]
        check_promise(path, found.shape, 8 * found.dtype.itemsize, GZIP_RATIO)
        return np.asarray(found[...] if level is None else found[level])


def _depth(path: Path) -> int:
    with _h5py().File(path, "r") as file:
        found = file["image"]
        check_promise(path, found.shape, 8 * found.dtype.itemsize, GZIP_RATIO)
        return found.shape[0]


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("reading HDF5 volumes", "h5") from None
    return h5py
