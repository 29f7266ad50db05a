"""Pictures and their label maps, wherever a data set keeps the files of each."""

import functools
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data.checks import check_image, check_index, labels_or_error
from jaxseg_xai.data.files import FileReader
from jaxseg_xai.data.label_values import LabelValues

T = TypeVar("T")
#: Of a data set without a validation split, so many training images are one for validation.
_FOLDS = 5


class Pair(NamedTuple):
    """The files of an item.

    Attributes:
      id: its name.
      image: the picture.
      labels: its label map; None where nobody has drawn one.
      group: name of what items belong together to; "" stands for the id.
    """

    id: str
    image: Path
    labels: Path | None
    group: str = ""


class FilePairs:
    """A `Source` of pictures and label maps in files, for data sets with a layout of their own.

    Opening lists the files; pixels are read item by item, so that one bad file fails one item. A
    data set whose labels are no files of their own has another `read_labels`.

    Attributes:
      class_names: as given.
      ids: those of the pairs.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        class_names: Sequence[str],
        *,
        values: LabelValues | None = None,
        read_labels: bool = True,
    ) -> None:
        """Take the pairs.

        Args:
          pairs: the files of each item.
          class_names: the classes, in the order of the label values.
          values: what the values of the label maps mean; None: classes.
          read_labels: False: items come without label maps.
        """
        self.class_names: tuple[str, ...] = tuple(class_names)
        self.ids: Sequence[str] = tuple(pair.id for pair in pairs)
        self._pairs, self._wanted = pairs, read_labels
        self._reader = FileReader(label_values=values)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Read item `index`: image float32 [H, W, C] in [0, 1], labels, or why they are unusable.

        Raises:
          DataError: the image cannot be used; one line with the file and the remedy.
        """
        pair = self._pairs[check_index(index, len(self))]
        image = check_image(self._reader.image(pair.image, None).image, str(pair.image))
        size = image.shape[:2]
        found = labels_or_error(lambda: self.read_labels(pair, size)) if self._wanted else {}
        return Sample(id=pair.id, image=image, group=pair.group, **found)

    def files(self, index: int) -> list[Path]:
        """The files that item `index` is read from."""
        pair = self._pairs[index]
        return [pair.image, *([pair.labels] if pair.labels and self._wanted else [])]

    def read_labels(self, pair: Pair, size: tuple[int, ...]) -> np.ndarray | None:
        """The label map int32 [H, W] of an image of `size`, None where there is none.

        Raises:
          DataError: it cannot be used.
        """
        if pair.labels is None:
            return None
        return self._reader.labels(pair.labels, pair.image, None, size, self.class_names)


def files_of(folder: Path, pattern: str, remedy: str) -> list[Path]:
    """The files of a folder whose names fit, sorted; `DataError` where there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {remedy}")
    found = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    if not found:
        raise DataError(f"{folder}: no file {pattern} in it; {remedy}")
    return found


def held_out(items: Sequence[T], split: str) -> list[T]:
    """Of training images: every fifth for the split "validation", the others for "train"."""
    numbered = enumerate(items, start=1)
    return [x for number, x in numbered if (number % _FOLDS == 0) == (split == "validation")]


def read_text(path: Path, remedy: str) -> str:
    """A text file; `DataError` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {remedy}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: no text file; {remedy}") from None


def read_lines(path: Path, remedy: str) -> list[str]:
    """The words that begin the lines of a text file; `DataError` where it cannot be read."""
    return [line.split()[0] for line in read_text(path, remedy).splitlines() if line.strip()]


def inside(root: Path, name: str, listed: Path) -> Path:
    """The file that a list of a data set names; `DataError` where it leads out of the folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{listed}: {name} is no file of {root}; unpack the data set again")
    return root / name


def tell_left_out(folder: Path, what: str, names: Sequence[str]) -> None:
    """Say what looks like images, or labels, but is not read."""
    if names:
        more = ", ..." if len(names) > 3 else ""
        _warn(f"{folder}: left out are {what} ({len(names)}): {', '.join(names[:3])}{more}")


@functools.cache  # a sweep opens its data set several times
def _warn(text: str) -> None:
    logging.getLogger(__name__).warning(text)


def unique(names: Iterable[str], where: Path) -> None:
    """Raise `DataError` for a name that occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: {name} is in it twice; delete one of them")
        seen.add(name)
