"""Data sets: synthetic scenes, a brain template, folders of images, TFDS, and patch pools.

Nothing heavy is imported here; nilearn, nibabel, tifffile and TFDS are imported when they are used.
"""

import inspect
import os
from pathlib import Path
from typing import Any

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Source
from jaxseg_xai.data.checks import check_split
from jaxseg_xai.data.degraded import DegradedDataset
from jaxseg_xai.data.pool import build_patch_pool
from jaxseg_xai.data.sources.brain import BrainDataset
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.data.sources.shapes import ShapesDataset
from jaxseg_xai.data.sources.tfds import TFDSDataset
from jaxseg_xai.data.sources.triangle import (
    SPLITS,
    TriangleDataset,
    TriangleInfo,
    causal_mask,
    make_triangle,
)
from jaxseg_xai.ops.patches import PatchPool, draw_patches, image_id

__all__ = [
    "BrainDataset",
    "DegradedDataset",
    "FolderDataset",
    "PatchPool",
    "ShapesDataset",
    "TFDSDataset",
    "TriangleDataset",
    "TriangleInfo",
    "build_patch_pool",
    "causal_mask",
    "draw_patches",
    "image_id",
    "make_triangle",
    "open_dataset",
]


def open_dataset(spec: str | os.PathLike[str], split: str = "test", **options: Any) -> Source:
    """Open a data set by name or path.

    A name that is also a folder means the built-in data set; write "./brain" for the folder.

    Args:
      spec: "brain", "triangle", "triangle-cue", "shapes", or the path of a folder of images.
      split: "train", "validation" or "test". A folder with sub-folders of these names has splits;
        any other folder is one data set whatever `split` says.
      **options: as for `BrainDataset`, `TriangleDataset`, `ShapesDataset` or `FolderDataset`.

    Returns:
      The data set.

    Raises:
      ConfigError: an unknown name, split or option.
      DataError: the folder cannot be used.
    """
    check_split(split, SPLITS)
    name = os.fspath(spec)
    if name == "brain":
        return BrainDataset(split, **_known(BrainDataset, options))
    if name in ("triangle", "triangle-cue"):
        options = _known(TriangleDataset, options, fixed=("cue",))
        return TriangleDataset(split, cue=name == "triangle-cue", **options)
    if name == "shapes":
        return ShapesDataset(split, **_known(ShapesDataset, options))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return FolderDataset(_split_folder(folder, split), **_known(FolderDataset, options))
    raise ConfigError(
        f"data set {name!r}: neither brain, triangle, triangle-cue nor shapes, nor an existing "
        "folder"
    )


def _known(
    constructor: type, options: dict[str, Any], fixed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return `options` if the constructor takes all of them, else raise `ConfigError`."""
    taken = set(inspect.signature(constructor).parameters) - {"root", "split", *fixed}
    for option in options:
        if option not in taken:
            names = ", ".join(sorted(taken))
            raise ConfigError(f"{constructor.__name__} has no option {option!r}; it has {names}")
    return options


def _split_folder(folder: Path, split: str) -> Path:
    existing = [name for name in SPLITS if (folder / name).is_dir()]
    if not existing:
        return folder
    if split not in existing:
        raise DataError(f"{folder}: no split {split!r}, only {', '.join(existing)}; choose another")
    return folder / split
