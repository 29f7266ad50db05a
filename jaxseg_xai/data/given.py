"""What a person gives as images (arrays, files, folders, samples), as a data set."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data.registry import FOLDER, layout_of, open_dataset, options_of
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.data.sources.memory import MemorySource


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


def _folder(path: Path, labels: Any, **options: Any) -> Source:
    if labels is not None and not isinstance(labels, str | os.PathLike):
        raise ConfigError(f"{path}: the labels of a folder are a folder; give its path")
    name = FOLDER if labels is not None else layout_of(path)
    if name == FOLDER:
        return FolderDataset(path, labels=labels, **options)
    known = options_of(name)
    return open_dataset(name, root=path, **{k: v for k, v in options.items() if k in known})


def _one(labels: Any) -> Any:
    """Labels of one image as a list."""
    if labels is None or isinstance(labels, list | tuple):
        return labels
    return [labels]
