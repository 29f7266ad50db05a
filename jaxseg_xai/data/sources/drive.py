"""DRIVE as its archive unpacks: fundus photographs with their vessels and the field of view."""

import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from jaxseg_xai.core.types import IGNORED
from jaxseg_xai.data.checks import check_split
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.pairs import FilePairs, Pair, files_of, held_out

_MANUAL, _FIELD = "1st_manual", "mask"
_WHITE = 128


class DriveDataset(FilePairs):
    """DRIVE: fundus photographs, their vessels inside the camera's field of view.

    The splits are the folders `training` and `test`; "validation" is every fifth image of
    `training`, and "train" the others. Labels are the first observer's; outside the field of view
    nobody knows the class (`IGNORED`). Where a folder `1st_manual` is missing, as in newer copies
    of `test`, there are no labels. TIFF needs the extra `tiff`.

    Attributes:
      class_names: ("background", "vessel").
      ids: "01_test", "21_training".

    References:
      Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE TMI 23,
      2004.
    """

    layout: ClassVar[str] = (
        "a folder with training/{images/21_training.tif, 1st_manual/21_manual1.gif, "
        "mask/21_training_mask.gif} and test/..."
    )
    licence: ClassVar[str] = "research and education only, no redistribution (terms of its site)"
    homepage: ClassVar[str] = "https://drive.grand-challenge.org"

    def __init__(
        self, root: str | os.PathLike[str], *, split: str = "test", read_labels: bool = True
    ) -> None:
        """List the images of a split.

        Args:
          root: the folder that has training and test.
          split: "train", "validation" or "test".
          read_labels: False: images come without label maps.

        Raises:
          DataError: there is no image.
          ConfigError: another split.
        """
        part = "test" if check_split(split) == "test" else "training"
        self._folder = Path(root).expanduser() / part
        remedy = "root is the folder that has training and test"
        images = files_of(self._folder / "images", "*.tif", remedy)
        is_labelled = (self._folder / _MANUAL).is_dir()
        pairs = [
            Pair(id=image.stem, image=image, labels=self._manual(image) if is_labelled else None)
            for image in (images if part == "test" else held_out(images, split))
        ]
        super().__init__(
            pairs,
            ("background", "vessel"),
            values=LabelValues(threshold=_WHITE),
            read_labels=read_labels,
        )

    def read_labels(self, pair: Pair, size: tuple[int, ...]) -> np.ndarray | None:
        """Vessels inside the field of view, `IGNORED` outside."""
        vessels = super().read_labels(pair, size)
        if vessels is None:
            return None
        field = self._folder / _FIELD / f"{pair.image.stem}_mask.gif"
        seen = super().read_labels(pair._replace(labels=field), size)
        return np.where(seen == 1, vessels, IGNORED).astype(np.int32)

    def _manual(self, image: Path) -> Path:
        return self._folder / _MANUAL / f"{image.stem.partition('_')[0]}_manual1.gif"

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        return (folder / "training" / _MANUAL).is_dir() and (folder / "training" / _FIELD).is_dir()
