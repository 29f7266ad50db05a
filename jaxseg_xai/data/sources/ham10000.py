"""HAM10000 and the ISIC challenges as their archives unpack: skin lesions."""

import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.data.checks import SPLITS, check_split
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.pairs import FilePairs, Pair, read_text, tell_left_out, unique

_ENDING = re.compile("_segmentation.png$", re.IGNORECASE)
_FOLDERS = re.compile(r"HAM10000_segmentations|IS(IC|BI).*(Part|Task)1_.*GroundTruth")
#: Word in the name of a challenge's folder of label maps -> split.
_WORDS = {"training": "train", "validation": "validation", "test": "test"}
#: HAM10000 has no splits: of so many lesions one is for each of "validation" and "test".
_LESIONS = 10
_WHITE = 128


class HAM10000Dataset(FilePairs):
    """HAM10000 and the ISIC challenges: dermatoscopic photographs of skin lesions.

    Images ISIC_*.jpg and label maps ISIC_*_segmentation.png are found in any sub-folders. White is
    the lesion.

    HAM10000 has no splits; ours are of lesions, which `HAM10000_metadata` names, in the order of
    their names: of every ten eight are "train", one "validation" and one "test". (Without the file
    every image counts as a lesion.) The splits of the challenges are those in the names of the
    folders of their label maps. "all" is every image. An image without a label map is left out.

    Attributes:
      class_names: ("background", "lesion").
      ids: "ISIC_0024306"; the group is the lesion, "HAM_0000118".

    References:
      Tschandl et al., The HAM10000 dataset, Scientific Data 5, 180161, 2018; label maps: Tschandl
      et al., Human-computer collaboration for skin cancer recognition, Nature Medicine 26, 2020.
    """

    layout: ClassVar[str] = (
        "a folder with HAM10000_images_part_{1,2}/ISIC_*.jpg, HAM10000_segmentations_lesion_"
        "tschandl/ISIC_*_segmentation.png, HAM10000_metadata.csv; or the folders of a challenge, "
        "ISIC2018_Task1-2_Training_Input and ISIC2018_Task1_Training_GroundTruth"
    )
    licence: ClassVar[str] = "HAM10000 and ISIC 2018: CC BY-NC 4.0; ISIC 2016 and 2017: CC0"
    homepage: ClassVar[str] = (
        "https://doi.org/10.7910/DVN/DBW86T, https://challenge.isic-archive.com/data/"
    )

    def __init__(
        self, root: str | os.PathLike[str], *, split: str = "test", read_labels: bool = True
    ) -> None:
        """List the images of a split.

        Args:
          root: the folder into which the archives are unpacked.
          split: "train", "validation", "test" or "all".
          read_labels: False: images come without label maps.

        Raises:
          DataError: no image, no label map, none of the split, or no lesion in the metadata.
          ConfigError: another split.
        """
        check_split(split, (*SPLITS, "all"))
        root = Path(root).expanduser()
        images, labels = _images(root), _labels(root)
        for what, names in (
            ("label maps without an image", labels.keys() - images.keys()),
            ("images without a label map", images.keys() - labels.keys()),
        ):
            tell_left_out(root, what, sorted(names))
        names, lesions = sorted(images.keys() & labels.keys()), _lesions(root)
        parts = _parts({name: lesions.get(name, name) for name in names}, labels)
        chosen = [name for name in names if split in (parts[name], "all")]
        if not chosen:
            there = ", ".join(sorted(set(parts.values()))) or "nothing with a label map"
            raise DataError(f"{root}: no image of the split {split!r}, only {there}; choose one")
        super().__init__(
            [Pair(name, images[name], labels[name], lesions.get(name, "")) for name in chosen],
            ("background", "lesion"),
            values=LabelValues(threshold=_WHITE),
            read_labels=read_labels,
        )

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        return any(_FOLDERS.match(path.name) and path.is_dir() for path in folder.iterdir())


def _images(root: Path) -> dict[str, Path]:
    """Name of an image -> its file."""
    found = [path for path in root.rglob("*.jpg") if not path.name.startswith(".")]
    if not found:
        raise DataError(f"{root}: no *.jpg in it; root is the folder with the unpacked archives")
    unique((path.stem for path in found), root)
    return {path.stem: path for path in found}


def _labels(root: Path) -> dict[str, Path]:
    """Name of an image -> its label map."""
    found = [path for path in root.rglob("*.png") if _ENDING.search(path.name)]
    named = {_ENDING.sub("", path.name): path for path in found if path.name[0] != "."}
    if not named:
        raise DataError(
            f"{root}: no *_segmentation.png in it; unpack the archive of label maps there, too"
        )
    return named


def _lesions(root: Path) -> dict[str, str]:
    """Name of an image -> its lesion; {} without metadata."""
    for path in sorted(root.rglob("HAM10000_metadata*")):
        text = read_text(path, "download it again")
        rows = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text else ",")
        try:
            return {row["image_id"]: row["lesion_id"] for row in rows}
        except KeyError as error:
            raise DataError(f"{path}: no column {error.args[0]}; download it again") from None
        except csv.Error as error:
            raise DataError(f"{path}: no table ({error}); download it again") from None
    return {}


def _parts(lesions: Mapping[str, str], labels: Mapping[str, Path]) -> dict[str, str]:
    """Name of an image -> its split."""
    number = {lesion: place for place, lesion in enumerate(sorted(set(lesions.values())))}
    ours = {_LESIONS - 2: "validation", _LESIONS - 1: "test"}
    found = {}
    for name, lesion in lesions.items():
        folder = labels[name].parent.name.lower()
        told = [split for word, split in _WORDS.items() if word in folder]
        found[name] = told[0] if told else ours.get(number[lesion] % _LESIONS, "train")
    return found
