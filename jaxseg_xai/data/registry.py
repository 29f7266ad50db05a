"""The data sets by name, and how one is opened.

A further data set is a file in `jaxseg_xai/data/sources/` and a line here (or an entry point of the
group "jaxseg_xai.sources" in another package). Nothing heavy is imported before it is used.
"""

import inspect
import os
from pathlib import Path
from typing import Any, Protocol

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.registry import Registry
from jaxseg_xai.core.types import Source


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
        "brain-volume": "jaxseg_xai.data.sources.brain_volume:BrainVolumeDataset",
        "triangle": "jaxseg_xai.data.sources.triangle:TriangleDataset",
        "triangle-cue": "jaxseg_xai.data.sources.triangle:TriangleCueDataset",
        "shapes": "jaxseg_xai.data.sources.shapes:ShapesDataset",
        "causes": "jaxseg_xai.data.sources.causes:CausesDataset",
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
FOLDER = "folder"


def open_dataset(spec: str | os.PathLike[str], split: str = "test", **options: Any) -> Source:
    """Open a data set by name or path.

    A name that is also a folder means the data set; write "./brain" for the folder.

    Args:
      spec: a name of `SOURCES`, "tfds:NAME" for a data set of TFDS, "causes:NAME" for a set of
        known causes, or the path of a folder: of a data set whose layout is recognised, or else of
        images (the data set "folder").
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
    return layout_of(folder), {"root": spec}


def layout_of(folder: Path) -> str:
    """The name of the data set that has the layout of a folder."""
    for known, opener in SOURCES.usable():
        if hasattr(opener, "recognises") and opener.recognises(folder):
            return known
    return FOLDER


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
