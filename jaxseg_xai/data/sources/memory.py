"""Images that are there already, arrays or image files, as a source."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data import readers
from jaxseg_xai.data.checks import (
    check_image,
    check_index,
    check_labels,
    labels_or_error,
    scale_integers,
)
from jaxseg_xai.data.files import FileReader, Scan, item_name
from jaxseg_xai.data.pillow_files import numbers_of, picture_of

#: An array (NumPy, JAX, a PyTorch tensor, a Pillow image), a path of an image file, or a `Sample`.
Item = Any
#: An array whose first axis counts items, or a list of them.
Items = Any


class MemorySource:
    """Arrays and image files as a `Source`.

    Unsigned integers and bool are divided by the largest value of their dtype (uint8 / 255), floats
    are taken as they are. A `Sample` keeps what it says of itself, its spacing for one. Files and
    Pillow's images are read as `FolderDataset` reads files; each axial slice of a NIfTI file is an
    item.

    Attributes:
      class_names: as given, or ().
      ids: as given; else a sample's own, "image-00012" by position, of a file its stem ("stem#017"
        of a slice), and its whole path where two files have one stem.

    >>> source = MemorySource(np.arange(32, dtype=np.uint8).reshape(2, 4, 4))
    >>> len(source), source.ids[1], source[1].image.shape
    (2, 'image-00001', (4, 4, 1))
    """

    def __init__(
        self,
        images: Items,
        labels: Items | None = None,
        *,
        ids: Sequence[str] | None = None,
        class_names: Sequence[str] = (),
        rank: int = 2,
        raw: bool = False,
        name: str = "image",
    ) -> None:
        """Take images, and labels in the same order.

        Args:
          images: N of them: an array [N, *S, C] or [N, *S], or a list of arrays [*S, C] or [*S], of
            paths of image files, and of `Sample`s.
          labels: a label map [*S] or planes bool [*S, K] for each, arrays or paths; None: unknown.
            None in the place of an item: unknown for this one.
          ids: a unique name for each.
          class_names: the classes in the order of the label values; (): their range is not checked.
          rank: number of axes in S: 2 for images, 3 for volumes, which a NIfTI file then is.
          raw: whether NIfTI files keep their own numbers.
          name: begins the ids of arrays.

        Raises:
          DataError: no image, another number of labels or ids, or an id twice.
          ConfigError: another rank.
        """
        if rank not in (2, 3):
            raise ConfigError(f"rank is {rank}; it must be 2 for images or 3 for volumes")
        if len(images) == 0:
            raise DataError("no image given; give an array, the path of a file, or a list of them")
        for what, given in (("labels", labels), ("ids", ids)):
            if given is not None and len(given) != len(images):
                raise DataError(f"{len(given)} {what} for {len(images)} images; give one for each")
        self.class_names: tuple[str, ...] = tuple(class_names)
        self._rank, self._reader = rank, FileReader(rank=rank, raw=raw)
        # (image, labels or None, slice or None)
        self._items: list[tuple[Item, Item, int | None]] = []
        # (id, what stands in its place if it is there twice)
        found: list[tuple[str, str]] = []
        for number, image in enumerate(images):
            truth = None if labels is None else labels[number]
            if isinstance(image, Sample):
                self._items.append((image, truth, None))
                found.append((image.id, image.id))
                continue
            if not isinstance(image, str | os.PathLike):
                self._items.append((image, truth, None))
                position = f"{name}-{number:05d}"
                found.append((position, position))
                continue
            path = Path(image).expanduser()
            for stem, level in self._reader.items_of(path):
                self._items.append((path, truth, level))
                found.append((stem, item_name(path, level)))
        self.ids: Sequence[str] = _unique(found) if ids is None else _of_items(ids, len(found))
        twice, times = Counter(self.ids).most_common(1)[0]
        if times > 1:
            raise DataError(f"{twice}: two images have this id; give every image an id of its own")

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Item `index`: image float32 [*S, C], labels, None, or why they cannot be used.

        Raises:
          DataError: the image cannot be used; one line with its id or file and the remedy.
        """
        image, labels, level = self._items[check_index(index, len(self))]
        name = self.ids[index]
        if isinstance(image, Sample):
            return self._sample(index, image)
        if isinstance(image, Path):
            name = item_name(image, level)
            scan = self._reader.image(image, level)
        else:
            scan = Scan(self._array(image, name))
        pixels = check_image(scan.image, name, rank=self._rank)
        return Sample(
            id=self.ids[index],
            image=pixels,
            **labels_or_error(
                lambda: None if labels is None else self._labels(index, name, pixels.shape[:-1])
            ),
            group=readers.split_name(image)[0] if level is not None else "",
            spacing=scan.spacing,
            affine=scan.affine,
        )

    def files(self, index: int) -> list[Path]:
        """The files that item `index` is read from."""
        image, labels, _ = self._items[index]
        given = [one for one in (image, labels) if isinstance(one, str | os.PathLike)]
        return [Path(one).expanduser() for one in given]

    def _sample(self, index: int, sample: Sample) -> Sample:
        """One that is given, with the labels given beside it."""
        name = self.ids[index]
        pixels = check_image(sample.image, name, rank=self._rank)
        if self._items[index][1] is None:
            return dataclasses.replace(sample, id=name, image=pixels)
        found = {"labels": None, "labels_error": None}
        found |= labels_or_error(lambda: self._labels(index, name, pixels.shape[:-1]))
        return dataclasses.replace(sample, id=name, image=pixels, **found)

    def _array(self, image: Item, name: str) -> np.ndarray:
        raw = picture_of(image, name) if isinstance(image, Image.Image) else np.asarray(image)
        if raw.ndim not in (self._rank, self._rank + 1):
            axes = {2: "[H, W] or [H, W, C]", 3: "[D, H, W] or [D, H, W, C]"}[self._rank]
            other = {2: "volumes need rank=3", 3: "images need rank=2"}[self._rank]
            raise DataError(
                f"{name}: an array of shape {raw.shape}; it must be {axes} for rank {self._rank} "
                f"({other}, and a model of that rank)"
            )
        return scale_integers(
            raw, name, "give unsigned integers, or floats as the model wants them"
        )

    def _labels(self, index: int, name: str, size: tuple[int, ...]) -> np.ndarray:
        image, labels, level = self._items[index]
        if isinstance(labels, str | os.PathLike):
            path, of = Path(labels).expanduser(), Path(image if isinstance(image, Path) else name)
            return self._reader.labels(path, of, level, size, self.class_names)
        if level is not None:
            raise DataError(f"{name}: labels of a NIfTI file must be a NIfTI file; give its path")
        if isinstance(labels, Image.Image):
            labels = numbers_of(labels, name)
        return check_labels(np.asarray(labels), name, size, self.class_names)


def _unique(found: list[tuple[str, str]]) -> tuple[str, ...]:
    times = Counter(short for short, _ in found)
    return tuple(short if times[short] == 1 else longer for short, longer in found)


def _of_items(ids: Sequence[str], count: int) -> tuple[str, ...]:
    if len(ids) != count:
        raise DataError(f"{len(ids)} ids for {count} slices; leave ids out for NIfTI files")
    return tuple(map(str, ids))
