"""Cases of one image or volume each, its channels and labels in files of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.parse import json_of
from jaxseg_xai.core.types import IGNORED, Sample, planes_where_known
from jaxseg_xai.data import nifti
from jaxseg_xai.data.checks import Window, check_image, check_index, labels_or_error
from jaxseg_xai.data.files import FileReader, is_nifti
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.nifti import Plane

#: What describes a data set of cases.
CARD = "dataset.json"


class Case(NamedTuple):
    """The files of a case.

    Attributes:
      id: its name.
      channels: the files of its channels, which must lie on one grid; a file may hold several.
      labels: its label map; None where nobody has drawn one.
    """

    id: str
    channels: tuple[Path, ...]
    labels: Path | None


class Cases:
    """A `Source` of cases, for data sets with a layout of their own.

    A case is a volume [z, y, x, C], in the order in which SimpleITK reads it; with `rank` 2, or
    where the files are pictures, it is [H, W, C], of volumes each slice of a plane. Values are
    scaled as `FolderDataset` does it, or, with `raw`, are those of the file.

    Attributes:
      class_names: as given.
      ids: the case; "case#017" for slice 17, whose group is "case".
    """

    def __init__(
        self,
        cases: Sequence[Case],
        class_names: Sequence[str],
        *,
        num_channels: int,
        regions: Sequence[Sequence[int]] = (),
        rank: int | None = None,
        plane: Plane = "axial",
        raw: bool = False,
        window: Window | None = None,
        values: LabelValues | None = None,
    ) -> None:
        """List the items of the cases.

        Args:
          cases: one at least.
          class_names: the classes.
          num_channels: C.
          regions: of classes that may overlap, the labels of each; (): the classes exclude each
            other.
          rank: 3 for volumes, 2 for pictures or slices; None: what the files are.
          plane: of the slices.
          raw: whether volumes keep their own numbers.
          window: two numbers of the file that become 0 and 1.
          values: what the values of label maps mean; None: classes.

        Raises:
          ConfigError: a bad window, rank or plane.
        """
        self.class_names: tuple[str, ...] = tuple(class_names)
        self._cases, self._regions, self._num_channels = cases, regions, num_channels
        is_volume = is_nifti(cases[0].channels[0])
        self._rank = rank or (3 if is_volume else 2)
        options: dict[str, Any] = {"rank": self._rank, "plane": plane, "raw": raw and is_volume}
        # Each keeps the volume that it read last.
        files = len(cases[0].channels)
        self._readers = [FileReader(window, **options, label_values=values) for _ in range(files)]
        self._same_grid: set[str] = set()
        # (id, case, slice or None)
        self._items = [
            (case.id if level is None else f"{case.id}#{level:03d}", case, level)
            for case in cases
            for _, level in self._readers[0].items_of(case.channels[0])
        ]
        self.ids: Sequence[str] = tuple(name for name, _, _ in self._items)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read item `index`: image float32 [*S, C], labels, or why they cannot be used.

        Raises:
          DataError: the item cannot be used; one line with the file and the remedy.
        """
        name, case, level = self._items[check_index(index, len(self))]
        first = case.channels[0]
        if is_nifti(first) and case.id not in self._same_grid:
            for other in case.channels[1:]:
                nifti.check_same_grid(first, other, "channel")
            self._same_grid.add(case.id)
        pairs = zip(self._readers, case.channels, strict=True)
        scans = [reader.image(path, level) for reader, path in pairs]
        rank = self._rank
        each = [s.image if s.image.ndim > rank else s.image[..., None] for s in scans]
        sizes = {image.shape[:-1] for image in each}
        if len(sizes) > 1:
            raise DataError(f"{first}: its channels have the sizes {sizes}; resample them")
        image = np.concatenate(each, axis=-1)
        image = check_image(image, str(first), self._num_channels, rank=rank)
        return Sample(
            id=name,
            image=image,
            **labels_or_error(lambda: self._read_labels(case, level, image.shape[:-1])),
            group="" if level is None else case.id,
            spacing=scans[0].spacing,
            affine=scans[0].affine,
        )

    def files(self, index: int) -> list[Path]:
        """The files that item `index` is read from."""
        case = self._items[index][1]
        return [*case.channels, *([case.labels] if case.labels else [])]

    def _read_labels(
        self, case: Case, level: int | None, size: tuple[int, ...]
    ) -> np.ndarray | None:
        if case.labels is None:
            return None
        names = () if self._regions else self.class_names
        labels = self._readers[0].labels(case.labels, case.channels[0], level, size, names)
        if not self._regions:
            return labels
        planes = np.stack([np.isin(labels, region) for region in self._regions], axis=-1)
        return planes_where_known(planes, labels != IGNORED)


def has_card(folder: Path, keys: Sequence[str]) -> bool:
    """Whether a folder has a `dataset.json` with these keys."""
    try:
        read_card(folder, keys, "")
    except DataError:
        return False
    return True


def read_card(folder: Path, keys: Sequence[str], remedy: str) -> Mapping[str, Any]:
    """The `dataset.json` of a folder.

    Args:
      folder: where it is.
      keys: that it must have.
      remedy: what to do where it lacks one.

    Raises:
      DataError: it is missing, damaged or without one of the keys.
    """
    path = folder / CARD
    try:
        card = json_of(path)
        missing = [key for key in keys if key not in card]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name the folder that has it") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); write it again") from None
    if missing:
        raise DataError(f"{path}: has no {', '.join(missing)}; {remedy}")
    return card
