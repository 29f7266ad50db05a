"""Tiny data sets, written in exactly the layouts in which they are published."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SIZE = (12, 10)


class Layout(NamedTuple):
    """What a data set on disk should be read as.

    Attributes:
      root: its folder.
      ids: of its test split.
      images: the files of these items.
      label_files: the files of their labels, or the one file of all.
      classes: what the label map of the first item should be, int [H, W], -1 where not known.
      listing: the file without which there is no data set, or an image folder.
      group: of the first item.
    """

    root: Path
    ids: tuple[str, ...]
    images: list[Path]
    label_files: list[Path]
    classes: np.ndarray
    listing: Path
    group: str = ""


def picture(seed, size=SIZE):
    """Noise, uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)


def save(path, pixels, **options):
    """An image file and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def save_indexed(path, indices):
    """A palette PNG of colours that say nothing of the indices."""
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette(np.random.default_rng(7).integers(0, 255, 768, dtype=np.uint8).tobytes())
    image.save(path)
    return path


def voc(root):
    root = root / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (root / "SegmentationClass").mkdir()
    splits = {"train": ["2007_000032"], "val": ["2007_000033", "2007_000042", "2007_000061"]}
    splits["trainval"] = sorted(splits["train"] + splits["val"])
    for name, ids in splits.items():
        (lists / f"{name}.txt").write_text("".join(f"{one}\n" for one in ids))
    classes = np.zeros(SIZE, int)
    classes[2:6, 3:7], classes[2, 3:7] = 20, -1
    images, labels = [], []
    for number, name in enumerate(splits["trainval"]):
        images += [save(root / "JPEGImages" / f"{name}.jpg", picture(number), quality=95)]
        path = root / "SegmentationClass" / f"{name}.png"
        labels += [save_indexed(path, np.where(classes < 0, 255, classes))]
    return Layout(root, tuple(splits["val"]), images[1:], labels[1:], classes, lists / "val.txt")


#: Name of the data set -> a function of an empty folder that writes one.
LAYOUTS = {"voc": voc}
