"""Where images come from: data sets, folders, arrays.

A further data set is a file in `jaxseg_xai/data/sources/` and a line here (or an entry point of the
group "jaxseg_xai.sources" in another package). Nothing heavy is imported before it is used.
"""

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.registry import Registry
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data.degraded import DegradedDataset
from jaxseg_xai.data.grouped import GroupedDataset
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.pool import build_patch_pool
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.data.sources.memory import MemorySource

__all__ = [
    "SOURCES",
    "DegradedDataset",
    "GroupedDataset",
    "LabelValues",
    "MemorySource",
    "OpenSource",
    "as_source",
    "build_patch_pool",
    "name_of_source",
    "open_dataset",
    "options_of",
]


class OpenSource(Protocol):
    """What a line of the registry names: the class of a `Source`, or a function that returns one.

    Its options are the keywords of its signature, beside `split`; a source without splits takes
    the argument and ignores it. It raises `ConfigError` for a bad value of an option and
    `DataError` where its files cannot be used.

    One that has a function `recognises(folder)` is taken for the path of a folder of its layout.
    `jaxseg-xai sources` prints the texts `layout` (which files it expects), `licence` (of the data)
    and `homepage`, where it has them.
    """

    def __call__(self, *, split: str, **options: Any) -> Source:
        """Open a split ("train", "validation", "test", ...) of the data set."""
        ...


#: Name of a data set -> `OpenSource`.
SOURCES = Registry(
    "jaxseg_xai.sources",
    "data set",
    {
        "brain": "jaxseg_xai.data.sources.brain:BrainDataset",
        "triangle": "jaxseg_xai.data.sources.triangle:TriangleDataset",
        "triangle-cue": "jaxseg_xai.data.sources.triangle:TriangleCueDataset",
        "shapes": "jaxseg_xai.data.sources.shapes:ShapesDataset",
        "folder": "jaxseg_xai.data.sources.folder:FolderDataset",
        "nnunet_raw": "jaxseg_xai.data.sources.nnunet_raw:NNUNetRawDataset",
        "msd": "jaxseg_xai.data.sources.msd:MSDDataset",
        "synapse": "jaxseg_xai.data.sources.synapse:SynapseDataset",
        "btcv": "jaxseg_xai.data.sources.btcv:BTCVDataset",
        "dicom": "jaxseg_xai.data.sources.dicom:DICOMDataset",
        "coco": "jaxseg_xai.data.sources.coco:CocoDataset",
        "voc": "jaxseg_xai.data.sources.voc:VOCDataset",
        "ham10000": "jaxseg_xai.data.sources.ham10000:HAM10000Dataset",
        "fives": "jaxseg_xai.data.sources.fives:FivesDataset",
        "drive": "jaxseg_xai.data.sources.drive:DriveDataset",
        "tfds": "jaxseg_xai.data.sources.tfds:PreparedDataset",
    },
    base=("__call__",),
)

#: The data set of folders without a layout of their own.
_FOLDER = "folder"


def open_dataset(spec: str | os.PathLike[str], split: str = "test", **options: Any) -> Source:
    """Open a data set by name or path.

    A name that is also a folder means the data set; write "./brain" for the folder.

    Args:
      spec: a name of `SOURCES`, "tfds:NAME" for a data set of TFDS, or the path of a folder: of a
        data set whose layout is recognised, or else of images (the data set "folder").
      split: "train", "validation" or "test"; of a folder see `FolderDataset`.
      **options: of the data set, see its class.

    Returns:
      The data set.

    Raises:
      ConfigError: an unknown name, split or option.
      DataError: the folder cannot be used.

    >>> triangles = open_dataset("triangle", "test", size=32, num=3)
    >>> len(triangles), triangles[0].image.shape
    (3, (32, 32, 3))
    """
    name, implied = _resolve(spec)
    options = implied | options
    opener: OpenSource = SOURCES.get(name)
    _check_options(name, opener, options)
    return opener(split=split, **options)


def name_of_source(spec: str | os.PathLike[str]) -> str:
    """The name in `SOURCES` of what `open_dataset` opens; `ConfigError` where that is nothing."""
    return _resolve(spec)[0]


def options_of(name: str) -> frozenset[str]:
    """Names of the options that a data set of `SOURCES` has."""
    return frozenset(inspect.signature(SOURCES.get(name)).parameters) - {"split"}


def as_source(
    images: Any,
    labels: Any = None,
    *,
    rank: int = 2,
    raw: bool = False,
    class_names: Sequence[str] = (),
    name: str = "image",
) -> Source:
    """What a person calls images, as a `Source`.

    Args:
      images: an array of one image ([*S] or [*S, C]) or of several ([N, *S, C]), the path of an
        image file, of a folder of images or of a data set whose layout is recognised (its test
        split), a `Sample`, a list of arrays, paths and samples, or a `Source`, which is given back.
      labels: those of the images, in the same form; of a folder, the folder of the label maps. A
        source has its own.
      rank: number of axes in S, that of the model's input.
      raw: whether NIfTI files keep their own numbers, as the model's input says.
      class_names: the classes in the order of the label values; (): their range is not checked.
      name: begins the ids of arrays.

    Raises:
      DataError: no such file or folder, or an array of another rank.
      ConfigError: labels that do not go with the images.

    >>> as_source(np.zeros((5, 8, 8, 3)), name="scan").ids[4]
    'scan-00004'
    """
    options: dict[str, Any] = {"class_names": class_names, "rank": rank, "raw": raw, "name": name}
    if isinstance(images, str | os.PathLike):
        path = Path(images).expanduser()
        if path.is_dir():
            return _folder(path, labels, rank=rank, raw=raw, class_names=class_names)
        if not path.is_file():
            raise DataError(
                f"{path}: no such file or folder; check the path (the data set of a name is "
                "open_dataset(name))"
            )
        return MemorySource([path], _one(labels), **options)
    if isinstance(images, Sample | Image.Image):
        return MemorySource([images], _one(labels), **options)
    if hasattr(images, "ids") and hasattr(images, "class_names"):
        if labels is not None:
            raise ConfigError("labels are given, but a source has its own; leave them out")
        return images
    if isinstance(images, list | tuple):
        return MemorySource(images, labels, **options)
    array = np.asarray(images)
    if array.ndim in (rank, rank + 1):
        return MemorySource([array], _one(labels), **options)
    if array.ndim != rank + 2:
        axes = {2: "H, W", 3: "D, H, W"}[rank]
        raise DataError(
            f"images of shape {array.shape}: a model of rank {rank} takes [{axes}], [{axes}, C] or "
            f"[N, {axes}, C]"
        )
    return MemorySource(array, labels, **options)


def _resolve(spec: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """(Name in `SOURCES`, options that are said with it) of what a person writes."""
    text = os.fspath(spec)
    if text in SOURCES:
        return text, {}
    name, colon, of_its_own = text.partition(":")
    if colon and name in SOURCES and "name" in options_of(name):
        return name, {"name": of_its_own}
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"data set {text!r}: neither one of {', '.join(SOURCES.names())}, nor an existing "
            "folder"
        )
    return _layout_of(folder), {"root": spec}


def _layout_of(folder: Path) -> str:
    """The name of the data set that has the layout of a folder."""
    for known, opener in SOURCES.usable():
        if hasattr(opener, "recognises") and opener.recognises(folder):
            return known
    return _FOLDER


def _folder(path: Path, labels: Any, **options: Any) -> Source:
    if labels is not None and not isinstance(labels, str | os.PathLike):
        raise ConfigError(f"{path}: the labels of a folder are a folder; give its path")
    name = _FOLDER if labels is not None else _layout_of(path)
    if name == _FOLDER:
        return FolderDataset(path, labels=labels, **options)
    known = options_of(name)
    return open_dataset(name, root=path, **{k: v for k, v in options.items() if k in known})


def _one(labels: Any) -> Any:
    """Labels of one image as a list."""
    if labels is None or isinstance(labels, list | tuple):
        return labels
    return [labels]


def _check_options(name: str, opener: OpenSource, options: dict[str, Any]) -> None:
    """Raise `ConfigError` for an option that a data set does not have, or needs."""
    taken = dict(inspect.signature(opener).parameters)
    taken.pop("split", None)
    any_name = [key for key, value in taken.items() if value.kind is value.VAR_KEYWORD]
    for option in options:
        if option not in taken and not any_name:
            known = ", ".join(sorted(taken)) or "none"
            raise ConfigError(f"{name} has no option {option!r}; it has {known}")
    for option, value in taken.items():
        if value.default is value.empty and option not in (*options, *any_name):
            remedy = ""
            if option == "root":
                remedy = ", the folder of your copy (--data.root of a sweep)"
                remedy += f"; ./{name} is the folder of this name" if Path(name).is_dir() else ""
            raise ConfigError(f"{name} needs the option {option!r}{remedy}")
