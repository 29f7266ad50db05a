"""Pascal VOC 2012 as its archive unpacks: photographs, 20 classes and background."""

import os
from pathlib import Path
from typing import ClassVar

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.data.checks import check_split
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.pairs import FilePairs, Pair, inside, read_lines, unique

CLASS_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
#: Split -> the list of its images; the labels of the test images are not public.
_LISTS = {"train": "train", "validation": "val", "test": "val", "trainval": "trainval"}
_SETS = Path("ImageSets", "Segmentation")
_VOID = 255


class VOCDataset(FilePairs):
    """Pascal VOC 2012: photographs, 20 classes and background.

    The splits are the lists of `ImageSets/Segmentation`: train, trainval, and val for "validation"
    and "test". The outlines of objects, 255 in the label maps, belong to no class (`IGNORED`).

    Attributes:
      class_names: "background" and the 20 classes, in the order of the label maps.
      ids: "2007_000033".

    References:
      Everingham et al., The Pascal Visual Object Classes (VOC) challenge, IJCV 88, 2010.
    """

    layout: ClassVar[str] = (
        "VOCdevkit/VOC2012 with JPEGImages/*.jpg, SegmentationClass/*.png, "
        "ImageSets/Segmentation/{train,val,trainval}.txt"
    )
    licence: ClassVar[str] = "photographs from flickr, under the terms of use of flickr"
    homepage: ClassVar[str] = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"

    def __init__(
        self, root: str | os.PathLike[str], *, split: str = "test", read_labels: bool = True
    ) -> None:
        """List the images of a split.

        Args:
          root: the folder VOC2012.
          split: see above.
          read_labels: False: images come without label maps.

        Raises:
          DataError: the list of the split is missing or empty.
          ConfigError: another split.
        """
        root = Path(root).expanduser()
        listed = root / _SETS / f"{_LISTS[check_split(split, tuple(_LISTS))]}.txt"
        remedy = "root is the folder VOC2012 of the archive, VOCdevkit/VOC2012"
        names = read_lines(listed, remedy)
        if not names:
            raise DataError(f"{listed}: lists no image; unpack the archive again")
        unique(names, listed)
        pairs = [
            Pair(
                id=name,
                image=inside(root / "JPEGImages", f"{name}.jpg", listed),
                labels=inside(root / "SegmentationClass", f"{name}.png", listed),
            )
            for name in names
        ]
        values = LabelValues(ignore=(_VOID,))
        super().__init__(pairs, CLASS_NAMES, values=values, read_labels=read_labels)

    @staticmethod
    def recognises(folder: Path) -> bool:
        """Whether a folder is laid out like this."""
        return (folder / _SETS).is_dir() and (folder / "SegmentationClass").is_dir()
