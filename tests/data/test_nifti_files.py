"""NIfTI files: a range for each contrast, whole numbers as labels, and grids that must agree."""

import nibabel
import numpy as np
import pytest

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.data import MemorySource
from jaxseg_xai.data.sources.folder import FolderDataset
from tests.support import labels_fail

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def test_contrasts_of_a_volume_have_a_range_each(tmp_path):
    rng = np.random.default_rng(0)
    both = rng.random((6, 8, 5, 2), np.float32) * [1, 1000]
    nibabel.save(nibabel.Nifti1Image(both, np.eye(4)), tmp_path / "both.nii")
    for k in range(2):
        alone = tmp_path / str(k)
        alone.mkdir()
        nibabel.save(nibabel.Nifti1Image(both[..., k], np.eye(4)), alone / "a.nii")
        found, wanted = (FolderDataset(folder)[2].image for folder in (tmp_path, alone))
        np.testing.assert_array_equal(found[..., k], wanted[..., 0])


def test_labels_behind_a_float_header_are_whole_numbers(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    values = np.arange(240).reshape(6, 8, 5)
    nibabel.save(
        nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), tmp_path / "images/a.nii"
    )
    truth = nibabel.Nifti1Image((values % 3).astype(np.float64), np.eye(4))
    truth.header.set_data_dtype(np.int16)  # nibabel then chooses a scale of its own
    nibabel.save(truth, tmp_path / "labels" / "a.nii")
    found = FolderDataset(tmp_path)[2].labels
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, (values % 3)[::-1, ::-1, 2].T)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"origin": 1.0}, r"lie up to 1 mm off those of \S+a.nii: origin"),
        ({"spacing": 1.1}, r"lie up to \S+ mm off"),
        ({"turn": True}, r"voxels lie up to|8x6x5 voxels, its image"),
        ({"slices": 4}, r"6x8x4 voxels, its image \S+ 6x8x5; resample"),
    ],
)
def test_labels_on_another_grid_are_refused(tmp_path, change, says):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    values = np.arange(240, dtype=np.int16).reshape(6, 8, 5)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "images" / "a.nii")
    affine, truth = AFFINE.copy(), values % 2
    affine[0, 3] += change.get("origin", 0)
    affine[1] *= change.get("spacing", 1)
    if change.get("turn"):
        affine = affine[:, [1, 0, 2, 3]]
    truth = truth[:, :, : change.get("slices", 5)]
    nibabel.save(nibabel.Nifti1Image(truth, affine), tmp_path / "labels" / "a.nii")
    sample = FolderDataset(tmp_path)[1]
    labels_fail(sample, says)
    assert str(tmp_path / "labels" / "a.nii") in str(sample.labels_error)
    assert str(tmp_path / "images" / "a.nii") in str(sample.labels_error)


def test_labels_stored_in_another_order_lie_on_the_same_grid(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    values = np.arange(240, dtype=np.int16).reshape(6, 8, 5)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "images" / "a.nii")
    flipped = AFFINE @ np.array([[-1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    flipped[:3, 3] += 0.01  # headers round
    nibabel.save(nibabel.Nifti1Image((values % 7)[::-1], flipped), tmp_path / "labels" / "a.nii")
    np.testing.assert_array_equal(FolderDataset(tmp_path)[2].labels, (values % 7)[::-1, ::-1, 2].T)


@pytest.mark.parametrize("kind", ["nan", "zero", "parallel"])
def test_a_broken_affine_is_named(tmp_path, kind):
    affine = AFFINE.copy()
    affine[:, 1] = {"nan": np.nan, "zero": 0, "parallel": affine[:, 0]}[kind]
    affine[3] = [0, 0, 0, 1]
    image = nibabel.Nifti1Image(np.zeros((4, 4, 3), np.int16), AFFINE)
    image.header.set_sform(affine, code=1)
    image.header.set_qform(None, code=0)
    with (tmp_path / "a.nii").open("wb") as stream:
        image.header.write_to(stream)
        stream.write(bytes(4 + 96))
    with pytest.raises(DataError, match=r"a\.nii: its affine does not say where the voxels lie"):
        FolderDataset(tmp_path)[0]


def test_a_label_map_of_two_images_must_fit_both(tmp_path):
    values = np.arange(240, dtype=np.int16).reshape(6, 8, 5)
    for name, count in (("a", 5), ("b", 6), ("truth", 5)):
        volume = np.concatenate([values, values], axis=2)[:, :, :count]
        nibabel.save(nibabel.Nifti1Image(volume, AFFINE), tmp_path / f"{name}.nii")
    truth = tmp_path / "truth.nii"
    source = MemorySource([tmp_path / "a.nii", tmp_path / "b.nii"], [truth, truth])
    assert source[4].labels is not None
    for index in (5, 10):  # the last one has no slice there
        labels_fail(source[index], r"6x8x5 voxels, its image \S+b\.nii 6x8x6; resample")
