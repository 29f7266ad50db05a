"""Data sets of volumes in their published layouts: voxels, places, labels, and what is wrong."""

import json
import re
import sys

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, DataError, MissingExtraError
from jaxseg_xai.core.orientation import orientation_of
from jaxseg_xai.data import as_source, name_of_source, open_dataset
from jaxseg_xai.data.sources import btcv, synapse
from jaxseg_xai.sweeps.data import DataConfig
from tests.data import volume_layouts as layouts
from tests.support import labels_fail


@pytest.fixture(params=layouts.VOLUMES)
def made(request, tmp_path):
    write, broken = layouts.VOLUMES[request.param]
    root = write(tmp_path)
    return request.param, root, root / broken


def test_a_layout_is_recognised(made):
    name, root, _ = made
    assert name_of_source(root) == name
    train, test = (set(open_dataset(root, split).ids) for split in ("train", "test"))
    assert train
    assert test
    assert not train & test
    assert DataConfig(source=name, root=root).open(None)[0].ids == open_dataset(root).ids
    assert as_source(root, rank=3).ids == open_dataset(root, rank=3).ids
    assert open_dataset(root, read_labels=False)[0].labels is None
    with pytest.raises(ConfigError, match="split='dev': choose one of train, validation, test"):
        open_dataset(root, "dev")


@pytest.mark.parametrize("rank", [2, 3])
def test_a_damaged_file_fails_its_own_items(made, rank):
    _, root, broken = made
    broken.write_bytes(b"broken")
    source, case = open_dataset(root, rank=rank), broken.name.split(".")[0]
    own = [index for index, name in enumerate(source.ids) if name.startswith(case)]
    for index in own:
        with pytest.raises(DataError, match=f"{re.escape(str(broken))}.*; export it again"):
            source[index]
    others = set(range(len(source))).difference(own)
    assert others
    for index in others:
        assert source[index].id == source.ids[index]


def test_a_missing_folder(made, tmp_path):
    name, _, _ = made
    with pytest.raises(DataError, match=f"{tmp_path}/none.*; ") as caught:
        open_dataset(name, root=tmp_path / "none")
    assert "\n" not in str(caught.value)


def test_msd_volumes(tmp_path):
    root = layouts.msd(tmp_path)
    source = open_dataset(root, raw=True)
    assert source.ids == ("BRATS_005", "BRATS_010")
    assert source.class_names == ("background", "edema", "tumour")
    sample = source[1]
    expected = layouts.numbers("BRATS_010", channels=2).transpose(2, 1, 0, 3)
    np.testing.assert_array_equal(sample.image, expected)
    np.testing.assert_array_equal(sample.labels, layouts.truth("BRATS_010", 3).T)
    assert sample.spacing == (3.0, 1.5, 2.0)
    np.testing.assert_array_equal(sample.affine, layouts.AFFINE[:, [2, 1, 0, 3]])
    assert orientation_of(sample.affine, 3) == "S P L"
    assert sample.group == ""
    scaled = open_dataset(root)[1].image
    assert (scaled.min(), scaled.max()) == (0, 1)
    window = open_dataset(root, window=(-100, 100))[1].image
    np.testing.assert_allclose(window, np.clip((expected + 100.0) / 200, 0, 1), atol=1e-6)


def test_msd_splits(tmp_path):
    root = layouts.msd(tmp_path)
    ids = {split: open_dataset(root, split).ids for split in ("train", "imagesTr", "imagesTs")}
    assert len(ids["train"]) == 8
    assert len(ids["imagesTr"]) == 10
    assert ids["imagesTs"] == ("BRATS_900",)
    sample = open_dataset(root, "imagesTs")[0]
    assert (sample.labels, sample.labels_error) == (None, None)


def test_msd_slices_of_a_plane(tmp_path):
    source = open_dataset(layouts.msd(tmp_path, channels=1), rank=2, plane="coronal", raw=True)
    assert len(source) == 2 * 5
    assert source.ids[6] == "BRATS_010#001"
    sample = source[6]
    assert (sample.group, sample.spacing) == ("BRATS_010", (3.0, 2.0))
    assert orientation_of(sample.affine, 2) == "I L"
    # y runs to the back, so the second slice from the back is the last but one.
    expected = layouts.numbers("BRATS_010")[:, 3, ::-1].T
    np.testing.assert_array_equal(sample.image[..., 0], expected)
    np.testing.assert_array_equal(sample.labels, layouts.truth("BRATS_010", 3)[:, 3, ::-1].T)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training": [{"image": "a.nii.gz"}]}, r"dataset.json: damaged \(KeyError: 'label'\)"),
        ({"training": []}, r"dataset.json: lists no case for the split test; choose another"),
        ({"labels": {}}, "dataset.json: damaged"),
        ({"modality": None}, "dataset.json: damaged"),
    ],
)
def test_a_description_that_cannot_be_used(tmp_path, change, words):
    root = layouts.msd(tmp_path)
    card = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(card | change))
    with pytest.raises(DataError, match=words) as caught:
        open_dataset("msd", root=root)
    assert "\n" not in str(caught.value)


def test_more_modalities_than_the_description_says(tmp_path):
    root = layouts.msd(tmp_path)
    layouts.save(root / "imagesTr/BRATS_005.nii.gz", layouts.numbers("x", channels=3))
    with pytest.raises(DataError, match=r"BRATS_005.nii.gz: 3 channels, but 2 are needed"):
        open_dataset(root)[0]


def test_labels_that_lie_elsewhere(tmp_path):
    root = layouts.msd(tmp_path)
    moved = layouts.AFFINE.copy()
    moved[0, 3] += 4
    layouts.save(root / "labelsTr/BRATS_005.nii.gz", layouts.truth("BRATS_005", 3), moved)
    for rank in (2, 3):
        labels_fail(
            open_dataset(root, rank=rank)[0], r"BRATS_005.nii.gz: its voxels lie up to 4 mm"
        )


def test_btcv(tmp_path):
    root = layouts.btcv(tmp_path)
    source = open_dataset(root)
    assert source.ids == ("img0001", "img0002")
    assert open_dataset(root, "train").ids == ("img0005", "img0006")
    assert source.class_names == btcv.CLASS_NAMES
    assert len(btcv.CLASS_NAMES) == 14
    sample = source[0]
    raw = layouts.numbers("img0001").T[..., None]
    np.testing.assert_allclose(sample.image, np.clip((raw + 125.0) / 400, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(sample.labels, layouts.truth("img0001", 14).T)
    np.testing.assert_array_equal(open_dataset(root, raw=True)[0].image, raw)
    of_slice = open_dataset(root, rank=2)[5]
    assert (of_slice.id, of_slice.group) == ("img0002#001", "img0002")


def test_btcv_with_the_organs_of_transunet(tmp_path):
    source = open_dataset(layouts.btcv(tmp_path), organs=8)
    assert source.class_names == synapse.CLASS_NAMES
    # Spleen, kidneys, gallbladder, esophagus, liver, stomach, aorta, two veins, pancreas, glands.
    ours = np.array([0, 7, 4, 3, 2, 0, 5, 8, 1, 0, 0, 6, 0, 0])
    np.testing.assert_array_equal(source[0].labels, ours[layouts.truth("img0001", 14).T])
    with pytest.raises(ConfigError, match="organs=9: choose 13, or the 8 of TransUNet"):
        open_dataset("btcv", root=tmp_path, organs=9)


def test_synapse(tmp_path):
    root = layouts.synapse(tmp_path)
    train = open_dataset(root, "train")
    assert train.ids[1] == "case0005_slice001"
    assert train[1].group == "case0005"
    arrays = layouts.prepared("case0005_slice001")
    np.testing.assert_array_equal(train[1].image[..., 0], arrays["image"])
    np.testing.assert_array_equal(train[1].labels, arrays["label"])
    arrays = layouts.prepared("case0002", (3, 8, 7))
    slices, volumes = open_dataset(root), open_dataset(root, rank=3)
    assert (slices.ids[4], volumes.ids) == ("case0002#001", ("case0001", "case0002"))
    np.testing.assert_array_equal(slices[4].image[..., 0], arrays["image"][1])
    np.testing.assert_array_equal(slices[4].labels, arrays["label"][1])
    np.testing.assert_array_equal(volumes[1].image[..., 0], arrays["image"])
    assert {slices[4].group, volumes[1].group} == {"case0002"}
    with pytest.raises(ConfigError, match=r"train_npz has slices .* choose another split"):
        open_dataset(root, "train", rank=3)


def test_lists_of_synapse_say_what_there_is(tmp_path):
    root = layouts.synapse(tmp_path)
    lists = root / "lists" / "lists_Synapse"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("case0006_slice001\ncase0005_slice000\n")
    (lists / "test_vol.txt").write_text("case0009\n")
    assert open_dataset(root, "train").ids == ("case0006_slice001", "case0005_slice000")
    with pytest.raises(DataError, match=r"case0009.npy.h5: no such file"):
        open_dataset(root)[0]
    (lists / "train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train.txt: lists no item; take the list of TransUNet"):
        open_dataset(root, "train")


def test_synapse_without_the_arrays(tmp_path):
    root = layouts.synapse(tmp_path)
    np.savez(root / "train_npz" / "case0005_slice000.npz", image=layouts.prepared("x")["image"])
    labels_fail(open_dataset(root, "train")[0], r"slice000.npz: no array 'label' among \['image'\]")


def test_synapse_without_h5py(tmp_path, monkeypatch):
    root = layouts.synapse(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"HDF5 volumes needs .*jaxseg-xai\[h5\]"):
        open_dataset(root)
    assert open_dataset(root, "train")[0].id == "case0005_slice000"
