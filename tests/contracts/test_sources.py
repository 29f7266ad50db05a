"""What every source of images keeps, whatever it reads.

A further data set is a line in `OPTIONS`.
"""

import json
import os

import nibabel
import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import IGNORED, Sample
from jaxseg_xai.data import SOURCES, DegradedDataset, GroupedDataset, MemorySource, open_dataset
from jaxseg_xai.data.sources.tfds import TFDSDataset
from jaxseg_xai.data.stamps import Stamps
from tests.data import dicom_layout, layouts, volume_layouts
from tests.data.test_tfds_data import prepare

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 255, (4, 12, 10, 3), dtype=np.uint8)
LABELS = RNG.integers(0, 2, (4, 12, 10), dtype=np.uint8)


def folder(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for name, picture, labels in zip("abcd", PICTURES, LABELS, strict=True):
        Image.fromarray(picture).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
    (tmp_path / "images" / "b.png").write_bytes(b"broken")
    return {"root": tmp_path, "class_names": ("background", "object")}


def nnunet_raw(tmp_path):
    """Two cases of two channels, the second without its second channel."""
    rng = np.random.default_rng(0)
    card = {"channel_names": {"0": "T1", "1": "T2"}, "file_ending": ".nii.gz"}
    card["labels"] = {"background": 0, "object": 1}
    (tmp_path / "dataset.json").write_text(json.dumps(card))
    for folder, name in (
        *[("imagesTr", f"{case}_000{i}") for case in "abc" for i in range(2)],
        *[("labelsTr", case) for case in "abc"],
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        values = rng.integers(0, 2 if folder == "labelsTr" else 200, (4, 5, 6), dtype=np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / folder / f"{name}.nii.gz")
    (tmp_path / "imagesTr" / "b_0001.nii.gz").unlink()
    return {"root": tmp_path}


def of_layout(name):
    """A published layout, whose second image is broken."""

    def options(tmp_path):
        layout = layouts.LAYOUTS[name](tmp_path)
        layout.images[1].write_bytes(b"broken")
        return {"root": layout.root}

    return options


def of_volumes(name):
    """A published layout of volumes, with a broken file."""

    def options(tmp_path):
        write, broken = volume_layouts.VOLUMES[name]
        root = write(tmp_path)
        (root / broken).write_bytes(b"broken")
        return {"root": root}

    return options


def dicom(tmp_path):
    """Three series; the second lacks a slice."""
    root = dicom_layout.dicom(tmp_path)
    dicom_layout.series(root / "P17" / "S4", 4, places=[0.0, 3.0, 9.0, 12.0])
    return {"root": root}


#: Name -> options that make the data set small, or a function of a folder that returns them.
OPTIONS = {
    "brain": {},
    "brain-volume": {},
    "triangle": {"size": 32, "num": 3},
    "triangle-cue": {"size": 32, "num": 3},
    "shapes": {"size": 32, "num": 3},
    "causes": {"name": "volume", "num": 3},
    "folder": folder,
    "nnunet_raw": nnunet_raw,
    **{name: of_volumes(name) for name in volume_layouts.VOLUMES},
    "dicom": dicom,
    **{name: of_layout(name) for name in layouts.LAYOUTS},
    "tfds": lambda tmp_path: {"name": "triangle_cue", "root": prepare(tmp_path).parents[2]},
}

#: Sources that are made of Python objects and therefore have no name.
UNNAMED = {
    "memory": lambda: MemorySource(
        [*PICTURES[:2], PICTURES[2] * 0], LABELS[:3], class_names=("background", "object")
    ),
    "overlapping": lambda: MemorySource(
        PICTURES, RNG.random((4, 12, 10, 3)) > 0.5, class_names=("whole", "core", "rim")
    ),
    "volumes": lambda: MemorySource(RNG.random((2, 4, 5, 6)), rank=3),
    "degraded": lambda: DegradedDataset(open_dataset("shapes", size=32, num=3), "mixed", 5),
    "grouped": lambda: GroupedDataset(open_dataset("shapes", size=32, num=3), r"(0)\d$|"),
    "tfds": lambda: TFDSDataset(
        [{"image": a, "label": b} for a, b in zip(PICTURES, LABELS, strict=True)],
        class_names=("background", "object"),
    ),
}


def test_every_built_in_data_set_is_here():
    assert list(OPTIONS) == list(SOURCES.built_in)


def test_every_layout_says_its_files_and_the_licence_of_the_data():
    for name, source in SOURCES.usable():
        if hasattr(source, "recognises"):
            assert source.layout, name
            assert source.licence, name


@pytest.mark.parametrize("name", OPTIONS)
def test_data_set(name, tmp_path):
    options = OPTIONS[name]
    if callable(options):
        options = options(tmp_path)
    check(lambda: open_dataset(name, "validation", **options))
    check_files(
        open_dataset(name, "validation", **options), of_files="root" in options and name != "tfds"
    )
    with pytest.raises(ConfigError, match=f"{name} has no option 'colour'; it has"):
        open_dataset(name, "validation", **options, colour=3)
    with pytest.raises(ConfigError, match="split='dev': choose one of"):
        open_dataset(name, "dev", **options)


@pytest.mark.parametrize("name", UNNAMED)
def test_source(name):
    made = UNNAMED[name]()
    check(lambda: made)


def check_files(source, of_files):
    """An item's stamp differs when one of the files that it is read from was rewritten."""
    stamps = [Stamps(source).of(index) for index in range(len(source))]
    if not of_files:
        assert not any(stamps)
        return
    assert all(stamps)
    for path in source.files(0):
        os.utime(path, (1e9, 1e9))
        changed = [Stamps(source).of(index) for index in range(len(source))]
        assert changed[0] != stamps[0], path
        stamps = changed


def check(opened):
    """Opened twice, it is the same; every item is a sample, or fails with one line."""
    source, again = opened(), opened()
    assert len(source) == len(source.ids) == len(set(source.ids)) >= 1
    assert tuple(source.ids) == tuple(again.ids)
    assert isinstance(source.class_names, tuple)
    good = 0
    # Neither the order nor what was read before matters.
    for index in reversed(range(min(len(source), 4))):
        try:
            sample = source[index]
        except DataError as error:
            text = str(error)
            assert "\n" not in text
            assert source.ids[index] in text
            with pytest.raises(DataError):
                again[index]
            continue
        good += 1
        assert sample.id == source.ids[index]
        check_sample(sample, source.class_names)
        other = again[index]
        np.testing.assert_array_equal(sample.image, other.image)
        if sample.labels is not None:
            np.testing.assert_array_equal(sample.labels, other.labels)
        # A sample is the caller's: writing into it must not reach the next one.
        sample.image[:] = 0
        np.testing.assert_array_equal(source[index].image, other.image)
    assert good
    for index in (len(source), -1):
        with pytest.raises(IndexError):
            source[index]


def check_sample(sample: Sample, class_names):
    image, labels = sample.image, sample.labels
    size = image.shape[:-1]
    assert image.dtype == np.float32
    assert len(size) in (2, 3)
    assert np.isfinite(image).all()
    assert 0 <= image.min() < image.max() <= 1
    assert sample.group or sample.group == ""
    assert sample.spacing is None or len(sample.spacing) == len(size)
    if sample.cause is not None:
        assert sample.cause.dtype == bool
        assert sample.cause.shape == size
    if labels is None:
        return
    if labels.ndim == len(size):
        assert labels.dtype == np.int32
        assert labels.shape == size
        known = labels[labels != IGNORED]
        assert 0 <= known.min() <= known.max() < len(class_names)
    else:
        assert labels.dtype == bool
        assert labels.shape == (*size, len(class_names))
