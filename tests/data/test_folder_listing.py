"""Which files of a folder become items, under which names, and what is said of the rest."""

import os
import unicodedata

import nibabel
import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.data import pairs
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.report.files import file_name
from jaxseg_xai.sweeps.data import DataConfig
from tests import tiny

RAMP = np.arange(120, dtype=np.uint8).reshape(10, 12)


@pytest.fixture(autouse=True)
def _said_nothing_before():
    pairs._warn.cache_clear()


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RAMP).save(path)


def save_volume(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.arange(240, dtype=np.int16).reshape(6, 8, 5), np.eye(4))
    path.write_bytes(image.to_bytes())


def chosen(path):
    """Ids that a sweep of one file explains."""
    source, items = DataConfig(source=str(path)).open(tiny.OUTPUT)
    return [source.ids[item] for item in items]


def test_files_of_windows_are_no_items(tmp_path):
    save(tmp_path / "a.png")
    for name in ("Thumbs.db", "desktop.ini", "ehthumbs.db", ".DS_Store"):
        (tmp_path / name).write_bytes(b"\0")
    assert FolderDataset(tmp_path).ids == ("a",)


def test_what_is_left_out_is_said_once(tmp_path, caplog):
    save(tmp_path / "a.png")
    for name in ("one", "two", "three", "four"):
        save(tmp_path / name / "b.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for _ in range(2):
        assert FolderDataset(tmp_path).ids == ("a",)
    assert [record.message for record in caplog.records] == [
        f"{tmp_path}: left out are broken links (1): gone.png",
        f"{tmp_path}: left out are sub-folders with images (4): four, one, three, ...",
    ]


def test_the_folder_of_labels_is_not_left_out(tmp_path, caplog):
    save(tmp_path / "a.png")
    save(tmp_path / "truth" / "a.png")
    FolderDataset(tmp_path, labels=tmp_path / "truth")
    save(tmp_path / "both" / "images" / "a.png")
    save(tmp_path / "both" / "labels" / "a.png")
    FolderDataset(tmp_path / "both")
    assert not caplog.records


def test_one_file_of_any_name_is_found(tmp_path):
    save(tmp_path / "plain.v2.png")
    save(tmp_path / "a#1.png")
    (tmp_path / "1.dcm").write_bytes(b"\0")
    nibabel.save(  # nibabel writes no upper-case suffix
        nibabel.Nifti1Image(np.arange(240, dtype=np.int16).reshape(6, 8, 5), np.eye(4)),
        tmp_path / "scan#2.nii.gz",
    )
    os.link(tmp_path / "scan#2.nii.gz", tmp_path / "VOL.NII.GZ")
    save_volume(tmp_path / "v.nii")
    assert chosen(tmp_path / "plain.v2.png") == ["plain.v2"]
    assert chosen(tmp_path / "a#1.png") == ["a#1"]
    assert chosen(tmp_path / "1.dcm") == ["1.dcm"]
    for name, stem in (("VOL.NII.GZ", "VOL"), ("scan#2.nii.gz", "scan#2"), ("v.nii", "v")):
        assert chosen(tmp_path / name) == [f"{stem}#{level:03d}" for level in range(5)]
    dataset = FolderDataset(tmp_path)
    assert dataset[dataset.ids.index("VOL#003")].image.shape == (8, 6, 1)


def test_accents_meet_however_they_are_written(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Schädel") for form in ("NFC", "NFD"))
    save(tmp_path / "images" / f"{composed}.png")
    save(tmp_path / "labels" / f"{decomposed}.png")
    dataset = FolderDataset(tmp_path)
    assert dataset.ids == (composed,)
    assert dataset[0].labels is not None


def test_names_of_pictures_fit_a_file_system():
    long = "снимок" * 9
    names = {file_name(f"{long}{end}-class-misure") for end in ("1", "2")}
    assert len(names) == 2
    assert all(len(f"{name}.png".encode()) <= 255 for name in names)
    assert file_name("a/b: c") == "a%2Fb%3A c"
