"""Synapse multi-organ CT (BTCV) as it is published: NIfTI volumes of the abdomen."""

import os
from pathlib import Path
from typing import ClassVar, Literal

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.data.cases import Case, Cases
from jaxseg_xai.data.checks import Window, check_split
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.nifti import Plane
from jaxseg_xai.data.pairs import files_of
from jaxseg_xai.data.sources.synapse import CLASS_NAMES as TRANSUNET

CLASS_NAMES = (
    *("background", "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver"),
    *("stomach", "aorta", "inferior vena cava", "portal and splenic vein", "pancreas"),
    *("right adrenal gland", "left adrenal gland"),
)
#: TransUNet's test cases, which most papers share.
TEST = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
#: What TransUNet's code clips to, in Hounsfield units.
ABDOMEN = (-125.0, 275.0)


class BTCVDataset(Cases):
    """Synapse multi-organ CT (BTCV) as published: abdomen, 13 organs, NIfTI.

    The splits are TransUNet's: 12 of the 30 cases with labels are "test" (and "validation"), the 18
    others "train". Values from -125 to 275 Hounsfield units become 0 to 1, unless there is another
    `window`. See `Cases` for the items.

    Attributes:
      class_names: "background" and the organs, in the order of the labels; TransUNet's 8 organs in
        its order with `organs` 8.
      ids: "img0001"; "img0001#017" for slice 17, whose group is "img0001".

    References:
      Landman et al., MICCAI 2015 challenge "Multi-atlas labeling beyond the cranial vault".
    """

    layout: ClassVar[str] = "RawData/Training with img/img0001.nii.gz, label/label0001.nii.gz"
    licence: ClassVar[str] = "terms of use of synapse.org, after registration"
    homepage: ClassVar[str] = "https://www.synapse.org/Synapse:syn3193805"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str = "test",
        organs: Literal[8, 13] = 13,
        rank: int = 3,
        plane: Plane = "axial",
        raw: bool = False,
        window: Window | None = None,
        read_labels: bool = True,
    ) -> None:
        """List the cases.

        Args:
          root: the folder that has img and label.
          split: see above.
          organs: 13, or the 8 that TransUNet segments; the others are then background.
          rank: 3 for volumes, 2 for slices.
          plane: of the slices.
          raw: whether volumes keep their own numbers.
          window: two numbers of the file that become 0 and 1; None: -125 and 275.
          read_labels: False: cases come without labels.

        Raises:
          DataError: no volume of the split in the folder.
          ConfigError: a bad window, rank, plane, split or number of organs.
        """
        check_split(split)
        if organs not in (8, 13):
            raise ConfigError(f"organs={organs!r}: choose 13, or the 8 of TransUNet")
        root = Path(root).expanduser()
        remedy = "root is the folder that has img and label, RawData/Training"
        files = files_of(root / "img", "img*.nii.gz", remedy)
        numbers = {path: path.name.removeprefix("img").removesuffix(".nii.gz") for path in files}
        cases = [
            Case(
                id=f"img{number}",
                channels=(path,),
                labels=root / "label" / f"label{number}.nii.gz" if read_labels else None,
            )
            for path, number in numbers.items()
            if (number.isdecimal() and int(number) in TEST) != (split == "train")
        ]
        if not cases:
            raise DataError(f"{root / 'img'}: no case of the split {split}; choose another one")
        super().__init__(
            cases,
            CLASS_NAMES if organs == 13 else TRANSUNET,
            num_channels=1,
            rank=rank,
            plane=plane,
            raw=raw,
            window=ABDOMEN if window is None and not raw else window,
            values=None if organs == 13 else LabelValues(map=_to_transunet()),
        )

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        return (folder / "label").is_dir() and any((folder / "img").glob("img*.nii.gz"))


def _to_transunet() -> dict[int, int]:
    """Label -> TransUNet's number of the organ, 0 of those that it leaves out."""
    return {
        number: TRANSUNET.index(name) if name in TRANSUNET else 0
        for number, name in enumerate(CLASS_NAMES)
    }
