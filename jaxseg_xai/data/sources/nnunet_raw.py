"""Raw data sets of nnU-Net v2: volumes or pictures of several channels, a file each."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.data.cases import CARD, Case, Cases, has_card, read_card
from jaxseg_xai.data.checks import Window, check_split
from jaxseg_xai.data.files import is_nifti
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.nifti import Plane

_KEYS = ("channel_names", "labels", "file_ending")
#: Digits of the number of a channel, in the name of its file.
_DIGITS = 4


class NNUNetRawDataset(Cases):
    """nnU-Net v2's raw folder: `dataset.json`, `imagesTr/x_0000.nii.gz`, `labelsTr/x.nii.gz`.

    The splits "train" and "validation" are `imagesTr`; "test" is `imagesTs`, or `imagesTr` where
    there is none. The channels of a case must lie on one grid. See `Cases` for the items.

    Labels that exclude each other are a label map, regions of several labels are planes. Pixels of
    the label "ignore" are `IGNORED`.

    Attributes:
      class_names: of dataset.json, in the order of their numbers; of regions all but background.
      ids: the case; "case#017" for slice 17, whose group is "case".
    """

    layout: ClassVar[str] = (
        "dataset.json (channel_names, labels, file_ending), imagesTr/CASE_0000.nii.gz (a file for "
        "each channel), labelsTr/CASE.nii.gz, imagesTs"
    )
    licence: ClassVar[str] = "that of the data set"
    homepage: ClassVar[str] = "https://github.com/MIC-DKFZ/nnUNet"

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
        card = read_card(root, _KEYS, "write it as nnU-Net v2 wants it")
        regions, class_names, ignored = _classes(card["labels"])
        ending, channels = str(card["file_ending"]), len(card["channel_names"])
        part = "Ts" if split == "test" and (root / "imagesTs").is_dir() else "Tr"
        images, labels = root / f"images{part}", root / f"labels{part}"
        has_labels, names = read_labels and labels.is_dir(), _names(images, ending)
        # The colours of a picture are the channels of one file, or files of their own.
        second = _file(images, names[0], 1, ending)
        numbers = range(channels if is_nifti(second) or second.exists() else 1)
        cases = [
            Case(
                id=name,
                channels=tuple(_file(images, name, i, ending) for i in numbers),
                labels=labels / f"{name}{ending}" if has_labels else None,
            )
            for name in names
        ]
        super().__init__(
            cases,
            class_names,
            num_channels=channels,
            regions=regions,
            rank=rank,
            plane=plane,
            raw=raw,
            window=window,
            values=LabelValues(ignore=ignored),
        )

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        return has_card(folder, _KEYS)


def _file(images: Path, case: str, channel: int, ending: str) -> Path:
    return images / f"{case}_{channel:0{_DIGITS}d}{ending}"


def _names(images: Path, ending: str) -> list[str]:
    """The cases of a folder, by the files of their first channel."""
    tail = f"_{0:0{_DIGITS}d}{ending}"
    try:
        names = sorted(path.name for path in images.iterdir())
    except OSError as error:
        raise DataError(f"{images}: {error.strerror}; check the path") from None
    cases = [name.removesuffix(tail) for name in names if name.endswith(tail)]
    if not cases:
        raise DataError(f"{images}: no file named *{tail}, as file_ending in {CARD} says; check it")
    return cases


def _classes(
    labels: Mapping[str, Any],
) -> tuple[list[list[int]], tuple[str, ...], tuple[int, ...]]:
    """(Labels of each region, or [] where classes exclude each other; names of the classes; labels
    of pixels whose class nobody knows)."""
    given = {name: value if isinstance(value, list) else [value] for name, value in labels.items()}
    ignored = tuple(map(int, given.pop("ignore", ())))
    if any(len(value) > 1 for value in given.values()):
        regions = {name: value for name, value in given.items() if value != [0]}
        return list(regions.values()), tuple(regions), ignored
    return [], tuple(sorted(given, key=lambda name: int(given[name][0]))), ignored
