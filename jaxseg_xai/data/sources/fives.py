"""FIVES as its archive unpacks: fundus photographs with their vessels."""

import os
from pathlib import Path
from typing import ClassVar

from jaxseg_xai.data.checks import check_split
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.pairs import FilePairs, Pair, files_of, held_out

_IMAGES, _LABELS = "Original", "Ground truth"
_WHITE = 128


class FivesDataset(FilePairs):
    """FIVES: fundus photographs, their vessels.

    The splits are the folders `train` and `test`; "validation" is every fifth image of `train`, and
    "train" the others. A vessel is white in the label maps.

    Attributes:
      class_names: ("background", "vessel").
      ids: "test_1_A"; A, D, G and N are age-related macular degeneration, diabetic retinopathy,
        glaucoma and normal.

    References:
      Jin et al., FIVES: a fundus image dataset for AI-based vessel segmentation, Scientific Data 9,
      475, 2022.
    """

    layout: ClassVar[str] = (
        "a folder with {train,test}/Original/1_A.png and {train,test}/Ground truth/1_A.png"
    )
    licence: ClassVar[str] = "CC BY 4.0"
    homepage: ClassVar[str] = "https://doi.org/10.6084/m9.figshare.19688169.v1"

    def __init__(
        self, root: str | os.PathLike[str], *, split: str = "test", read_labels: bool = True
    ) -> None:
        """List the images of a split.

        Args:
          root: the folder that has train and test.
          split: "train", "validation" or "test".
          read_labels: False: images come without label maps.

        Raises:
          DataError: there is no image.
          ConfigError: another split.
        """
        part = "test" if check_split(split) == "test" else "train"
        folder = Path(root).expanduser() / part
        images = files_of(folder / _IMAGES, "*.png", "root is the folder that has train and test")
        pairs = [
            Pair(id=f"{part}_{image.stem}", image=image, labels=folder / _LABELS / image.name)
            for image in (images if part == "test" else held_out(images, split))
        ]
        super().__init__(
            pairs,
            ("background", "vessel"),
            values=LabelValues(threshold=_WHITE),
            read_labels=read_labels,
        )

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        return any((folder / part / _LABELS).is_dir() for part in ("train", "test"))
