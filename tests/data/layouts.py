"""Tiny data sets, written in exactly the layouts in which they are published."""

import json
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
      listing: the file or folder without which there is no data set, where there is one.
      group: of the first item.
    """

    root: Path
    ids: tuple[str, ...]
    images: list[Path]
    label_files: list[Path]
    classes: np.ndarray
    listing: Path | None = None
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


def coco(root):
    """Polygons, a small object on a large one, and a crowd."""
    root = root / "coco"
    size = {"height": SIZE[0], "width": SIZE[1]}

    def box(top, left, bottom, right):
        return [[left, top, right, top, right, bottom, left, bottom]]

    def annotation(number, image, category, polygons, area, crowd=0):
        one = {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd}
        return one | {"segmentation": polygons, "area": area, "bbox": [0, 0, 1, 1]}

    inside = np.zeros(SIZE, bool)
    inside[8:12, :6] = True
    # Lengths of runs, down the columns, beginning with those outside.
    ends = np.flatnonzero(np.diff(inside.T.ravel())) + 1
    counts = np.diff([0, *ends, inside.size]).tolist()
    names = {1: "person", 32: "tie", 90: "toothbrush"}
    for part, images in {"train2017": (7, 9), "val2017": (139, 285, 632)}.items():
        head = [{"id": n, "file_name": f"{n:012d}.jpg", **size, "license": 1} for n in images]
        regions = [
            # In no order: the tie first, which is on the person.
            annotation(1, images[0], 32, box(4, 4, 6, 5), 2.0),
            annotation(2, images[0], 1, box(2, 3, 9, 7), 28.0),
            annotation(3, images[0], 1, {"size": list(SIZE), "counts": counts}, 24.0, crowd=1),
            annotation(4, images[1], 90, box(0, 0, 3, 3), 9.0),
        ]
        table = {"images": head, "annotations": regions}
        table["categories"] = [{"id": i, "name": name} for i, name in names.items()]
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        listing = root / "annotations" / f"instances_{part}.json"
        listing.write_text(json.dumps(table))
        files = [save(root / part / f"{n:012d}.jpg", picture(n), quality=95) for n in images]
    classes = np.where(inside, -1, 0)
    classes[2:9, 3:7], classes[4:6, 4:5] = 1, 2
    ids = tuple(path.stem for path in files)
    return Layout(root, ids, files, [listing], classes, listing)


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


def ham10000(root):
    """Ten lesions, two images of the last two, one image a lesion of the others."""
    lesions = [f"HAM_{n:07d}" for n in (*range(8), 8, 8, 9, 9)]
    names = [f"ISIC_{24306 + n:07d}" for n in range(len(lesions))]
    rows = [
        f"{lesion},{name},nv,histo,45,male,back"
        for lesion, name in zip(lesions, names, strict=True)
    ]
    head = "lesion_id,image_id,dx,dx_type,age,sex,localization"
    (root / "HAM10000_metadata.csv").write_text("\n".join([head, *rows]))
    classes = np.zeros(SIZE, int)
    classes[3:9, 2:8] = 1
    images, labels = [], []
    for number, name in enumerate(names):
        folder = root / f"HAM10000_images_part_{1 + number % 2}"
        images += [save(folder / f"{name}.jpg", picture(number), quality=95)]
        path = root / "HAM10000_segmentations_lesion_tschandl" / f"{name}_segmentation.png"
        labels += [save(path, (255 * classes).astype(np.uint8))]
    ids = tuple(names[-2:])
    return Layout(root, ids, images[-2:], labels[-2:], classes, group="HAM_0000009")


def fives(root):
    root = root / "FIVES A Fundus Image Dataset for AI-based Vessel Segmentation"
    classes = np.zeros(SIZE, int)
    classes[:, 4] = 1
    white = np.repeat(255 * classes[..., None], 3, axis=-1).astype(np.uint8)
    for part, number in (("train", 10), ("test", 2)):
        for n in range(1, number + 1):
            name = f"{n}_{'ADGN'[n % 4]}.png"
            save(root / part / "Original" / name, picture(n))
            save(root / part / "Ground truth" / name, white)
    original, truth = root / "test" / "Original", root / "test" / "Ground truth"
    names = ("1_D", "2_G")
    return Layout(
        root,
        tuple(f"test_{name}" for name in names),
        [original / f"{name}.png" for name in names],
        [truth / f"{name}.png" for name in names],
        classes,
        original,
    )


def drive(root):
    root = root / "DRIVE"
    field = np.zeros(SIZE, bool)
    field[2:-2, 1:-1] = True
    classes = np.where(field, 0, -1)
    classes[2:-2, 4] = 1
    images, manual = [], []
    for number in (*range(1, 4), *range(21, 32)):
        part = "test" if number < 21 else "training"
        folder, name = root / part, f"{number:02d}_{part}"
        path = folder / "images" / f"{name}.tif"
        images += [save(path, picture(number), compression="tiff_lzw")]
        path = folder / "1st_manual" / f"{number:02d}_manual1.gif"
        manual += [save(path, np.where(classes == 1, 255, 0).astype(np.uint8))]
        save(folder / "mask" / f"{name}_mask.gif", np.where(field, 255, 0).astype(np.uint8))
    ids = tuple(path.stem for path in images[:3])
    return Layout(root, ids, images[:3], manual[:3], classes, images[0].parent)


#: Name of the data set -> a function of an empty folder that writes one.
LAYOUTS = {"coco": coco, "voc": voc, "ham10000": ham10000, "fives": fives, "drive": drive}
