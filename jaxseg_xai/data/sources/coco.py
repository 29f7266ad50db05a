"""COCO 2017 as its archives unpack: photographs, 80 categories of things or 92 of stuff."""

import functools
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError, MissingExtraError
from jaxseg_xai.core.types import IGNORED
from jaxseg_xai.data import readers
from jaxseg_xai.data.checks import check_labels, check_split
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.pairs import FilePairs, Pair, inside, read_text

#: Split -> part of the data set; the labels of the test images are not public.
_PARTS = {"train": "train2017", "validation": "val2017", "test": "val2017"}
#: Kind of annotations -> the archive that has them.
_ARCHIVES = {
    "instances": "annotations_trainval2017.zip",
    "stuff": "stuff_annotations_trainval2017.zip",
}


class _Annotation(NamedTuple):
    """A region of an image, as the annotation file has it."""

    category: int
    is_crowd: bool
    area: float
    segmentation: Any


class _Annotations(NamedTuple):
    """An annotation file: its images, names of categories, and the regions of each image."""

    images: dict[int, tuple[str, int, int]]
    categories: dict[int, str]
    regions: dict[int, list[_Annotation]]


class CocoDataset(FilePairs):
    """COCO 2017: photographs, 80 categories of things or 92 of stuff.

    The splits are `train2017`, and `val2017` for "validation" and "test". A label map has one class
    a pixel. Instances are drawn from large to small: where two overlap, the smaller is on top (a
    tie on a person). What only a crowd region (`iscrowd`) covers belongs to no class (`IGNORED`),
    nor do pixels without a label of stuff. Stuff is read from `stuff_val2017_pixelmaps` where that
    is unpacked.

    Attributes:
      class_names: "background", then the categories by their ids, as the annotation file names them
        ("other" of stuff: any thing); or those chosen.
      ids: "000000000139".

    References:
      Lin et al., Microsoft COCO, arXiv 1405.0312; Caesar et al., COCO-Stuff, arXiv 1612.03716.
    """

    layout: ClassVar[str] = (
        "a folder with {train,val}2017/*.jpg (or in images/), and in annotations/ "
        "instances_{train,val}2017.json, or stuff_{train,val}2017.json with or without "
        "stuff_{train,val}2017_pixelmaps/*.png"
    )
    licence: ClassVar[str] = (
        "annotations CC BY 4.0; photographs from flickr, under the terms of use of flickr"
    )
    homepage: ClassVar[str] = "https://cocodataset.org"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str = "test",
        annotations: Literal["instances", "stuff"] = "instances",
        categories: str | Sequence[str] = (),
        read_labels: bool = True,
    ) -> None:
        """List the images of a split.

        Args:
          root: the folder that has annotations.
          split: "train", "validation" or "test".
          annotations: "instances" of things, or "stuff".
          categories: names of the only classes beside the background, "person,dog" or a list, in
            this order; all where empty.
          read_labels: False: images come without label maps.

        Raises:
          DataError: the annotation file is missing or damaged, or the folder of images is missing.
          ConfigError: another split or kind of annotations, or no such category.
          MissingExtraError: pycocotools is absent.
        """
        if annotations not in _ARCHIVES:
            raise ConfigError(f"annotations={annotations!r}: choose one of {', '.join(_ARCHIVES)}")
        root, part = Path(root).expanduser(), _PARTS[check_split(split)]
        self._file = root / "annotations" / f"{annotations}_{part}.json"
        self._found = _load(self._file, _ARCHIVES[annotations])
        self._maps = self._file.with_name(f"{annotations}_{part}_pixelmaps")
        self._has_maps = self._maps.is_dir()
        if read_labels and not self._has_maps:
            _import_rle()
        folders = [root / "images" / part, root / part]
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise DataError(f"{folders[1]}: no such folder; unpack {part}.zip there")
        names = _chosen(categories, self._found.categories)
        numbers = {name: number for number, name in enumerate(names, start=1)}
        classes = {i: numbers.get(name, 0) for i, name in self._found.categories.items()}
        #: Category -> class; 0 is a pixel of no category.
        self._classes = {0: 0 if annotations == "instances" else IGNORED} | classes
        pairs = [
            Pair(id=Path(name).stem, image=inside(folder, name, self._file), labels=None)
            for name, _, _ in self._found.images.values()
        ]
        self._image_ids = dict(zip((pair.id for pair in pairs), self._found.images, strict=True))
        super().__init__(pairs, ("background", *names), read_labels=read_labels)

    def files(self, index: int) -> list[Path]:
        """See `FilePairs.files`."""
        pair = self._pairs[index]
        labels = self._maps / f"{pair.id}.png" if self._has_maps else self._file
        return [pair.image, *([labels] if self._wanted else [])]

    def read_labels(self, pair: Pair, size: tuple[int, ...]) -> np.ndarray:
        """See `FilePairs.read_labels`."""
        if self._has_maps:
            path = self._maps / f"{pair.id}.png"
            name, numbers = str(path), readers.read_labels(path)
            unknown = set(np.unique(numbers).tolist()) - set(self._classes)
            if unknown:
                raise DataError(
                    f"{path}: {min(unknown)} is no category of {self._file.name}; unpack both again"
                )
            table = np.zeros(max(self._classes) + 1, np.int32)
            table[list(self._classes)] = list(self._classes.values())
            labels = table[numbers]
        else:
            name = f"{self._file}, image {pair.id}"
            labels = readers.guarded(name, lambda: self._draw(self._image_ids[pair.id]))
        return check_labels(labels, name, size, self.class_names, LabelValues(ignore=(IGNORED,)))

    def _draw(self, image_id: int) -> np.ndarray:
        """The classes int32 [H, W] of an image; crowds first, then from large to small."""
        _, height, width = self._found.images[image_id]
        canvas = np.full((height, width), self._classes[0], np.int32)
        regions = self._found.regions.get(image_id, [])
        for region in sorted(regions, key=lambda one: (not one.is_crowd, -one.area)):
            drawn = self._classes[region.category]
            mask = _decode(region.segmentation, height, width)
            canvas[mask] = IGNORED if region.is_crowd and drawn else drawn
        return canvas

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        parts = sorted(set(_PARTS.values()))
        names = [f"{kind}_{part}.json" for kind in _ARCHIVES for part in parts]
        return any((folder / "annotations" / name).is_file() for name in names)


def _chosen(categories: str | Sequence[str], known: dict[int, str]) -> list[str]:
    """Names of the classes, in their order."""
    wanted = categories.split(",") if isinstance(categories, str) else list(categories)
    names = [name.strip() for name in wanted if name.strip()]
    everything = [known[number] for number in sorted(known)]
    for name in names:
        if name not in everything:
            raise ConfigError(f"no category {name!r} in the annotations: {', '.join(everything)}")
    return names or everything


def _load(path: Path, archive: str) -> _Annotations:
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; unpack {archive} there, or choose the annotations that "
            "are there (option annotations: instances or stuff)"
        ) from None
    return _parsed(path, changed)


@functools.lru_cache(maxsize=2)  # reading takes long, and a sweep opens its data set several times
def _parsed(path: Path, changed: int) -> _Annotations:
    del changed
    try:
        table = json.loads(read_text(path, "unpack it again"))
        images = {
            one["id"]: (str(one["file_name"]), int(one["height"]), int(one["width"]))
            for one in table["images"]
        }
        categories = {int(one["id"]): str(one["name"]) for one in table["categories"]}
        regions: dict[int, list[_Annotation]] = {}
        for one in table["annotations"]:
            region = _Annotation(
                category=one["category_id"],
                is_crowd=bool(one.get("iscrowd", 0)),
                area=float(one["area"]),
                segmentation=one["segmentation"],
            )
            regions.setdefault(one["image_id"], []).append(region)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: damaged ({reason}); unpack it again") from None
    unnamed = {one.category for found in regions.values() for one in found} - set(categories)
    if not images or unnamed:
        what = f"has no name of category {min(unnamed)}" if unnamed else "lists no image"
        raise DataError(f"{path}: {what}; unpack it again")
    return _Annotations(images, categories, regions)


def _import_rle() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise MissingExtraError("reading COCO's annotations", "coco") from None
    return mask


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Bool [H, W] of polygons, or of a run-length code, compressed or not.

    pycocotools checks little: a far corner ends the process, and what a short code leaves out is
    whatever was in memory.
    """
    if isinstance(segmentation, list):
        corners = np.concatenate([np.ravel(polygon) for polygon in segmentation])
        if not np.all(np.abs(corners) <= 2 * (height + width)):
            raise ValueError("a polygon leaves the image")
        rle = _import_rle()
        merged = rle.merge(rle.frPyObjects(segmentation, height, width))
        with warnings.catch_warnings():  # its own arrays do not know NumPy's newest protocol
            warnings.simplefilter("ignore", DeprecationWarning)
            return rle.decode(merged).astype(bool)
    counts = segmentation["counts"]
    runs = np.asarray(_runs(counts) if isinstance(counts, str) else counts)
    if runs.sum() != height * width or runs.min() < 0:
        raise ValueError(f"a run-length code of {runs.sum()} pixels, not {height * width}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _runs(text: str) -> list[int]:
    """Lengths of the runs of a compressed code.

    Each is in groups of five bits, lowest first, a letter each, the highest bit of the last its
    sign; from the third on it is the difference to the one before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode():
        group = letter - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
