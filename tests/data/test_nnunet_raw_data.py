"""Raw data sets of nnU-Net v2, made here in exactly that layout."""

import json

import nibabel
import numpy as np
import pytest
from PIL import Image

import jaxseg_xai
from jaxseg_xai.cli import main as cli
from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import IGNORED, known_pixels
from jaxseg_xai.data import as_source, open_dataset
from jaxseg_xai.data.sources.nnunet_raw import NNUNetRawDataset
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.training.config import TrainConfig
from tests.models import test_nnunet as results
from tests.support import labels_fail

AFFINE = np.diag([-3.0, -1.0, 1.5, 1.0])
LABELS = {"background": 0, "organ": 1, "lesion": 2}
SIZE = (14, 20, 12)


def write(root, cases=("case1", "case2"), *, labels=LABELS, ending=".nii.gz", part="Tr"):
    """A raw folder with two channels; the second is 1000 times the first."""
    card = {"channel_names": {"0": "CT", "1": "MRI"}, "labels": labels, "file_ending": ending}
    for folder in (f"images{part}", f"labels{part}"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(card | {"numTraining": len(cases)}))
    for case in cases:
        values = volume(case)
        for channel, scale in enumerate((1, 1000)):
            save(root / f"images{part}" / f"{case}_000{channel}{ending}", values * scale)
        save(root / f"labels{part}" / f"{case}{ending}", values % 3)
    return root


def volume(case):
    return np.random.default_rng(len(case)).integers(-9, 9, SIZE).astype(np.int32)


def save(path, values, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int32), affine), path)


def test_a_case_is_what_nnunet_gets(tmp_path):
    write(tmp_path)
    source = open_dataset(tmp_path, raw=True)
    assert isinstance(source, NNUNetRawDataset)
    assert source.ids == ("case1", "case2")
    assert source.class_names == tuple(LABELS)
    sample, values = source[1], volume("case2").T
    np.testing.assert_array_equal(sample.image, np.stack([values, values * 1000], axis=-1))
    np.testing.assert_array_equal(sample.labels, values % 3)
    assert sample.spacing == (1.5, 1.0, 3.0)
    scaled = as_source(tmp_path, rank=3)[1].image
    assert (scaled.min(), scaled.max()) == (0, 1)
    np.testing.assert_allclose(scaled[..., 0], scaled[..., 1], atol=1e-6)


def test_splits_are_folders(tmp_path):
    write(tmp_path)
    write(tmp_path, ["new"], part="Ts")
    assert open_dataset(tmp_path, "train").ids == ("case1", "case2")
    assert open_dataset(tmp_path, "test").ids == ("new",)


def test_slices_of_a_case(tmp_path):
    source = open_dataset(write(tmp_path), rank=2, plane="coronal", raw=True)
    assert len(source) == 2 * 20
    assert source.ids[25] == "case2#005"
    sample = source[25]
    assert (sample.group, sample.image.shape, sample.spacing) == ("case2", (12, 14, 2), (1.5, 3.0))
    values = volume("case2")  # x to the left, y to the back, z up
    np.testing.assert_array_equal(sample.image[..., 0], values[:, 14, ::-1].T)


def test_training_takes_the_classes_from_the_folder(tmp_path):
    source = TrainConfig(data=str(write(tmp_path))).open("train")
    assert source.class_names == tuple(LABELS)


def test_regions_are_planes(tmp_path):
    regions = {"background": 0, "whole": [1, 2], "lesion": [2]}
    source = open_dataset(write(tmp_path, labels=regions))
    assert source.class_names == ("whole", "lesion")
    truth = volume("case1").T % 3
    np.testing.assert_array_equal(source[0].labels, np.stack([truth > 0, truth == 2], axis=-1))


def test_the_label_ignore_is_no_class(tmp_path):
    """2 is not known: in a label map, and in all planes of regions."""
    truth = volume("case1").T % 3
    source = open_dataset(write(tmp_path / "a", labels={"background": 0, "organ": 1, "ignore": 2}))
    assert source.class_names == ("background", "organ")
    np.testing.assert_array_equal(source[0].labels, np.where(truth == 2, IGNORED, truth))
    regions = {"background": 0, "whole": [1, 3], "core": [3], "ignore": 2}
    source = open_dataset(write(tmp_path / "b", labels=regions))
    assert source.class_names == ("whole", "core")
    expected = np.where((truth == 2)[..., None], IGNORED, [[[[1, 0]]]] * (truth == 1)[..., None])
    np.testing.assert_array_equal(source[0].labels, expected)
    assert not known_pixels(source[0].labels, 3)[truth == 2].any()


def test_pictures(tmp_path):
    card = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "road": 1}}
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps(card | {"file_ending": ".png"}))
    pixels = np.random.default_rng(0).integers(0, 255, (6, 7, 3), dtype=np.uint8)
    for channel in range(3):
        path = tmp_path / "imagesTr" / f"im_000{channel}.png"
        Image.fromarray(pixels[..., channel]).save(path)
    source = open_dataset(tmp_path, raw=True)
    assert source.ids == ("im",)
    np.testing.assert_allclose(source[0].image, pixels / 255, rtol=1e-6)
    assert source[0].labels is None


def break_channel(root):
    save(root / "imagesTr" / "case1_0001.nii.gz", volume("case1"), np.diag([3.0, 1.0, 1.5, 1.0]))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (break_channel, r"case1_0001\S+: its voxels lie .*case1_0000.*resample the channel"),
        (lambda r: (r / "imagesTr/case1_0001.nii.gz").unlink(), r"case1_0001.nii.gz: no such file"),
    ],
)
def test_a_bad_case_fails_alone(tmp_path, spoil, words):
    spoil(write(tmp_path))
    source = open_dataset(tmp_path)
    with pytest.raises(DataError, match=words):
        source[0]
    assert source[1].id == "case2"


def test_labels_that_are_gone_leave_the_image(tmp_path):
    write(tmp_path)
    (tmp_path / "labelsTr/case1.nii.gz").unlink()
    labels_fail(open_dataset(tmp_path)[0], r"labelsTr/case1.nii.gz: no such file")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "dataset.json").write_text("{"), "dataset.json: damaged"),
        (lambda root: (root / "dataset.json").write_text("{}"), "has no channel_names, labels"),
        (lambda root: (root / "dataset.json").unlink(), "dataset.json: No such file"),
        (lambda root: [p.unlink() for p in (root / "imagesTr").iterdir()], r"named \*_0000.nii.gz"),
    ],
)
def test_what_is_no_raw_folder(tmp_path, spoil, words):
    spoil(write(tmp_path))
    with pytest.raises(DataError, match=words):
        open_dataset("nnunet_raw", root=tmp_path)


def test_a_trained_model_is_swept_on_its_own_images(tmp_path, capsys):
    raw = write(tmp_path / "Dataset007_Tiny")
    model = results.write(tmp_path / "results", "3d_fullres")
    card = {"nnunet": {"folder": str(model), "checkpoint": "net.npz"}}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text(json.dumps(card))
    flags = ["--model", tmp_path / "model", "--data.source", raw, "--explain", "confidence"]
    flags += ["--classes", "organ", "--out", tmp_path / "s.zarr", "--data.limit", "1"]
    assert cli.main(["sweep", *map(str, flags)]) == 0, capsys.readouterr().err
    store = ZarrStore.open(tmp_path / "s.zarr")
    (row,) = store.rows()
    values = volume(row.image_id).T
    scan = jaxseg_xai.Sample(
        id=row.image_id,
        image=np.stack([values, values * 1000], axis=-1).astype(np.float32),
        spacing=(1.5, 1.0, 3.0),
    )
    expected = jaxseg_xai.explain(tmp_path / "model", scan, "organ", "confidence")
    found = store.read(row).attribution
    assert found.shape == values.shape
    np.testing.assert_allclose(found, expected.attribution, atol=1e-6)
