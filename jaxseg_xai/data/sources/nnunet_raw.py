"""Raw data sets of nnU-Net v2: volumes or pictures of several channels, a file each."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data import nifti
from jaxseg_xai.data.checks import (
    Window,
    check_image,
    check_index,
    check_split,
    labels_or_error,
)
from jaxseg_xai.data.files import FileReader, is_nifti
from jaxseg_xai.data.nifti import Plane

_CARD = "dataset.json"
#: Digits of the number of a channel, in the name of its file.
_DIGITS = 4


class NNUNetRawDataset:
    """nnU-Net v2's raw folder: `dataset.json`, `imagesTr/x_0000.nii.gz`, `labelsTr/x.nii.gz`.

    The splits "train" and "validation" are `imagesTr`; "test" is `imagesTs`, or `imagesTr` where
    there is none. The channels of a case must lie on one grid.

    A case is a volume [z, y, x, C], in the order in which SimpleITK reads it; with `rank` 2, or
    where the files are pictures, it is [H, W, C], of volumes each slice of a plane. Values are
    scaled as `FolderDataset` does it, or, with `raw`, are those of the file, as a model of
    `from_nnunet` takes them.

    Labels that exclude each other are a label map, regions of several labels are planes of bool.

    Attributes:
      class_names: of dataset.json, in the order of their numbers; of regions all but background.
      ids: the case; "case#017" for slice 17, whose group is "case".
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str = "test",
        rank: int | None = None,
        plane: Plane = "axial",
        raw: bool = False,
        window: Window | None = None,
        read_labels: bool = True,
    ) -> None:
        """List the cases.

        Args:
          root: the folder that has dataset.json.
          split: see above.
          rank: 3 for volumes, 2 for pictures or slices; None: what the files are.
          plane: of the slices.
          raw: whether volumes keep their own numbers.
          window: two numbers of the file that become 0 and 1.
          read_labels: False: cases come without labels, whether there are any or not.

        Raises:
          DataError: dataset.json is missing or damaged, or there is no case.
          ConfigError: a bad window, rank, plane or split.
        """
        check_split(split)
        root = Path(root).expanduser()
        card = _read_card(root)
        self._regions, self.class_names = _classes(card["labels"])
        self._ending = str(card["file_ending"])
        is_volume = is_nifti(Path(f"x{self._ending}"))
        self._rank = rank or (3 if is_volume else 2)
        part = "Ts" if split == "test" and (root / "imagesTs").is_dir() else "Tr"
        self._images, self._labels = root / f"images{part}", root / f"labels{part}"
        self._has_labels = read_labels and self._labels.is_dir()
        self._channels = len(card["channel_names"])
        options: dict[str, Any] = {"rank": self._rank, "plane": plane, "raw": raw and is_volume}
        # Each keeps the volume that it read last.
        self._readers = [FileReader(window, **options) for _ in range(self._channels)]
        self._same_grid: set[str] = set()
        # (id, case, slice or None)
        self._items = [
            (case + name[len(f"{case}_") + _DIGITS :], case, level)
            for case in self._cases()
            for name, level in self._readers[0].items_of(self._file(case, 0))
        ]
        self.ids: Sequence[str] = tuple(name for name, _, _ in self._items)

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        try:
            card = json.loads((folder / _CARD).read_text())
        except (OSError, ValueError):
            return False
        return isinstance(card, dict) and "channel_names" in card and "file_ending" in card

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read item `index`: image float32 [*S, C], labels, or why they cannot be used.

        Raises:
          DataError: the item cannot be used; one line with the file and the remedy.
        """
        name, case, level = self._items[check_index(index, len(self))]
        files = [self._file(case, channel) for channel in range(self._channels)]
        if is_nifti(files[0]) and case not in self._same_grid:
            for other in files[1:]:
                nifti.check_same_grid(files[0], other, "channel")
            self._same_grid.add(case)
        scans = [r.image(path, level) for r, path in zip(self._readers, files, strict=True)]
        each = [np.atleast_3d(scan.image) if self._rank == 2 else scan.image for scan in scans]
        if self._rank == 3:
            each = [image[..., None] if image.ndim == 3 else image for image in each]
        sizes = {image.shape[:-1] for image in each}
        if len(sizes) > 1:
            raise DataError(f"{files[0]}: its channels have the sizes {sizes}; resample them")
        image = check_image(np.concatenate(each, axis=-1), str(files[0]), rank=self._rank)
        return Sample(
            id=name,
            image=image,
            **labels_or_error(lambda: self._read_labels(case, files[0], level, image.shape[:-1])),
            group="" if level is None else case,
            spacing=scans[0].spacing,
            affine=scans[0].affine,
        )

    def _read_labels(
        self, case: str, image: Path, level: int | None, size: tuple[int, ...]
    ) -> np.ndarray | None:
        if not self._has_labels:
            return None
        path = self._labels / f"{case}{self._ending}"
        names = () if self._regions else self.class_names
        labels = self._readers[0].labels(path, image, level, size, names)
        if not self._regions:
            return labels
        return np.stack([np.isin(labels, region) for region in self._regions], axis=-1)

    def _file(self, case: str, channel: int) -> Path:
        return self._images / f"{case}_{channel:0{_DIGITS}d}{self._ending}"

    def _cases(self) -> list[str]:
        tail = f"_{0:0{_DIGITS}d}{self._ending}"
        try:
            names = sorted(path.name for path in self._images.iterdir())
        except OSError as error:
            raise DataError(f"{self._images}: {error.strerror}; check the path") from None
        cases = [name.removesuffix(tail) for name in names if name.endswith(tail)]
        if not cases:
            raise DataError(
                f"{self._images}: no file named *{tail}, as file_ending in {_CARD} says; check it"
            )
        return cases


def _read_card(root: Path) -> Mapping[str, Any]:
    path = root / _CARD
    try:
        card = json.loads(path.read_text())
        missing = [key for key in ("channel_names", "labels", "file_ending") if key not in card]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name the folder that has it") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); write it again") from None
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; write it as nnU-Net v2 wants it")
    return card


def _classes(labels: Mapping[str, Any]) -> tuple[list[list[int]], tuple[str, ...]]:
    """(Labels of each region, or [] where classes exclude each other; names of the classes)."""
    given = {
        name: value if isinstance(value, list) else [value]
        for name, value in labels.items()
        if name != "ignore"
    }
    if any(len(value) > 1 for value in given.values()):
        regions = {name: value for name, value in given.items() if value != [0]}
        return list(regions.values()), tuple(regions)
    return [], tuple(sorted(given, key=lambda name: int(given[name][0])))
