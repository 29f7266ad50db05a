"""Medical Segmentation Decathlon: ten tasks of volumes, one file a case, and a `dataset.json`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.data.cases import CARD, Case, Cases, has_card, read_card
from jaxseg_xai.data.checks import SPLITS, Window, check_split
from jaxseg_xai.data.files import name_of
from jaxseg_xai.data.nifti import Plane
from jaxseg_xai.data.pairs import held_out, inside, unique

_KEYS = ("modality", "labels", "training")
#: All volumes with labels, and those without.
_WHOLE = ("imagesTr", "imagesTs")


class MSDDataset(Cases):
    """Medical Segmentation Decathlon: volumes of ten tasks, CT and MRI.

    Of `training` in dataset.json every fifth case is of the split "validation", which "test" is
    too, and the others are of "train"; "imagesTr" are all of them. The volumes whose labels were
    never published are "imagesTs". Several modalities are channels. See `Cases` for the items.

    Attributes:
      class_names: the `labels` of dataset.json, in the order of their numbers.
      ids: the case, "BRATS_457"; "BRATS_457#017" for slice 17, whose group is the case.

    References:
      Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13, 2022.
    """

    layout: ClassVar[str] = (
        "Task01_BrainTumour with dataset.json (modality, labels, training, test), "
        "imagesTr/CASE.nii.gz (4-D: modalities last), labelsTr/CASE.nii.gz, imagesTs"
    )
    licence: ClassVar[str] = "CC BY-SA 4.0"
    homepage: ClassVar[str] = "http://medicaldecathlon.com"

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
          root: the folder of a task, which has dataset.json.
          split: see above.
          rank: 3 for volumes, 2 for slices; None: volumes.
          plane: of the slices.
          raw: whether volumes keep their own numbers.
          window: two numbers of the file that become 0 and 1, -160 and 240 for organs in CT.
          read_labels: False: cases come without labels, whether there are any or not.

        Raises:
          DataError: dataset.json is missing or damaged, or there is no case.
          ConfigError: a bad window, rank, plane or split.
        """
        check_split(split, (*SPLITS, *_WHOLE))
        root = Path(root).expanduser()
        card = read_card(root, _KEYS, "root is the folder of one task, Task09_Spleen for example")
        try:
            cases = _cases(root, card, split)
            class_names, channels = _class_names(card["labels"]), len(card["modality"])
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DataError(f"{root / CARD}: damaged ({reason}); unpack the task again") from None
        if not cases:
            raise DataError(f"{root / CARD}: lists no case for the split {split}; choose another")
        unique((case.id for case in cases), root / CARD)
        super().__init__(
            cases if read_labels else [case._replace(labels=None) for case in cases],
            class_names,
            num_channels=channels,
            rank=rank,
            plane=plane,
            raw=raw,
            window=window,
        )

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        return has_card(folder, _KEYS)


def _cases(root: Path, card: Mapping[str, Any], split: str) -> list[Case]:
    if split == "imagesTs":
        files = [inside(root, str(path), root / CARD) for path in card.get("test", ())]
        return [Case(name_of(path), (path,), None) for path in files]
    pairs = [
        [inside(root, str(entry[key]), root / CARD) for key in ("image", "label")]
        for entry in card["training"]
    ]
    labelled = [Case(name_of(image), (image,), labels) for image, labels in pairs]
    if split == "imagesTr":
        return labelled
    return held_out(labelled, "train" if split == "train" else "validation")


def _class_names(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Names by number; numbers without a name are called by their number."""
    names = {int(number): str(name) for number, name in labels.items()}
    return tuple(names.get(number, f"label {number}") for number in range(max(names) + 1))
