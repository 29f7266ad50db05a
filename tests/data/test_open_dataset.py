"""`open_dataset`, and what importing the package does not import."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxseg_xai import data
from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.data import open_dataset
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.data.sources.triangle import TriangleDataset


def write(folder):
    folder.mkdir(parents=True)
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(pixels).save(folder / "a.png")


def test_names():
    triangle = open_dataset("triangle", "train", size=32, num=3)
    assert isinstance(triangle, TriangleDataset)
    assert triangle.ids[0] == "triangle-train-00000"
    assert open_dataset("triangle-cue", num=1).ids == ("triangle-cue-test-00000",)


def test_folder_without_splits_is_one_data_set(tmp_path):
    write(tmp_path / "pictures")
    dataset = open_dataset(tmp_path / "pictures", "train", channels=1)
    assert isinstance(dataset, FolderDataset)
    assert dataset.ids == ("a",)


def test_folder_with_splits(tmp_path):
    write(tmp_path / "test" / "images")
    assert open_dataset(str(tmp_path), "test").ids == ("a",)
    with pytest.raises(DataError, match="no split 'train', only test"):
        open_dataset(tmp_path, "train")


def test_unknown_names_splits_and_options(tmp_path):
    with pytest.raises(
        ConfigError,
        match="neither one of brain, brain-volume, triangle, triangle-cue, shapes, causes, f",
    ):
        open_dataset("brian", "test")
    with pytest.raises(ConfigError, match="choose one of train, validation, test"):
        open_dataset("triangle", "dev")
    with pytest.raises(ConfigError, match="no option 'sise'; it has num, seed, size"):
        open_dataset("triangle", "test", sise=3)
    with pytest.raises(ConfigError, match="no option 'cue'"):
        open_dataset("triangle", "test", cue=True)


def test_public_names():
    for name in data.__all__:
        assert getattr(data, name).__doc__, name


def test_import_is_light():
    code = (
        "import sys, jaxseg_xai.data\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'nilearn', 'nibabel', 'tifffile', 'torch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
