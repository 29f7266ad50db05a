"""NIfTI files as volumes and as slices of each plane: where every voxel lies, and its number."""

import gzip

import nibabel
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.data import as_source
from jaxseg_xai.data.nifti import save_volume
from jaxseg_xai.data.sources.folder import FolderDataset
from tests.core.test_orientation import ALL, affine_of
from tests.support import labels_fail

#: [x, y, z]; every voxel has a number of its own.
VALUES = np.arange(240, dtype=np.int16).reshape(6, 8, 5)
AFFINES = {
    "RAS": np.diag([2.0, 3.0, 4.0, 1.0]),
    "LPS": np.diag([-2.0, -3.0, 4.0, 1.0]),
    "SLA": np.array([[0, -3.0, 0, 9], [0, 0, 4, 7], [2, 0, 0, 5], [0, 0, 0, 1]]),
    "oblique": np.array([[1.9, -0.5, 0, 9], [0.5, 2.9, 0, 7], [0, 0, 4, 5], [0, 0, 0, 1]]),
}


def save(path, values, affine, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine, **options), path)
    return path


def positions(affine, size):
    """Where each voxel lies, [*size, 3] in millimetres."""
    indices = np.stack([*np.indices(size), np.ones(size)], axis=-1)
    return (indices @ affine.T)[..., :3]


def stored_at(affine, places):
    """The file's number at each place."""
    inverse = np.linalg.inv(affine)
    indices = np.round(np.concatenate([places, np.ones((*places.shape[:-1], 1))], -1) @ inverse.T)
    return VALUES[tuple(np.moveaxis(indices[..., :3].astype(int), -1, 0))]


@pytest.mark.parametrize("order", AFFINES)
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal", None])
def test_the_affine_says_where_each_voxel_lies(tmp_path, order, plane):
    affine = AFFINES[order]
    save(tmp_path / "images" / "a.nii", VALUES, affine)
    save(tmp_path / "labels" / "a.nii", VALUES, affine)
    options = {"rank": 3} if plane is None else {"plane": plane}
    source = FolderDataset(tmp_path, window=(0, 240), **options)
    assert len(source) == (1 if plane is None else {5: 5, 6: 6, 8: 8}[len(source)])
    for index in range(len(source)):
        sample = source[index]
        size = sample.labels.shape
        places = positions(sample.affine, size if plane is None else (*size, 1)).reshape(*size, 3)
        np.testing.assert_array_equal(stored_at(affine, places), sample.labels)
        np.testing.assert_allclose(sample.image[..., 0] * 240, sample.labels, rtol=1e-5)
        lengths = np.linalg.norm(sample.affine[:3, :3], axis=0)
        np.testing.assert_allclose(sample.spacing, lengths[: len(size)])


def plain(path):
    """Values [x, y, z] and affine of a NIfTI file of float32, by the bytes of its header."""
    data = gzip.decompress(path.read_bytes())
    number = lambda kind, at, count: np.frombuffer(data, kind, count, at)  # noqa: E731
    axes, *size = number("<i2", 40, 4)
    assert (axes, number("<i2", 70, 1), number("<i2", 254, 1) > 0) == (3, 16, True)
    offset = int(number("<f4", 108, 1)[0])
    values = number("<f4", offset, np.prod(size)).reshape(size, order="F")
    return values, np.vstack([number("<f4", 280, 12).reshape(3, 4), [0, 0, 0, 1]])


@pytest.mark.parametrize("tilt", [0.0, 0.6])
def test_maps_lie_where_their_images_lie_for_any_other_reader(tmp_path, tilt):
    for letters in ALL:
        affine = affine_of(letters, tilt)
        path = save(tmp_path / letters / "a.nii.gz", VALUES, affine)
        sample = FolderDataset(path.parent, window=(0, 240), rank=3)[0]
        out = tmp_path / f"{letters}.nii.gz"
        save_volume(out, sample.image[..., 0] * 240, sample.affine)
        values, found = plain(out)
        np.testing.assert_allclose(found, affine, atol=1e-5)
        np.testing.assert_allclose(values, VALUES, rtol=1e-5)


def test_maps_are_in_the_world_of_simpleitk(tmp_path):
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is another reader; it is not needed")
    affine = affine_of("SLA", 0.3)
    path = save(tmp_path / "a" / "a.nii.gz", VALUES, affine)
    sample = FolderDataset(path.parent, window=(0, 240), rank=3)[0]
    save_volume(tmp_path / "map.nii.gz", sample.image[..., 0] * 240, sample.affine)
    image = itk.ReadImage(str(tmp_path / "map.nii.gz"))
    np.testing.assert_allclose(itk.GetArrayFromImage(image), sample.image[..., 0] * 240, rtol=1e-5)
    for index in np.ndindex(2, 3, 2):
        # SimpleITK's millimetres run to the left and to the back.
        place = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        np.testing.assert_allclose(place, (affine @ [*index, 1])[:3], atol=1e-4)


@pytest.mark.parametrize(
    ("plane", "first", "down", "right"),
    [
        ("axial", (5, 7, 0), (5, 6, 0), (4, 7, 0)),
        ("coronal", (5, 0, 4), (5, 0, 3), (4, 0, 4)),
        ("sagittal", (0, 7, 4), (0, 7, 3), (0, 6, 4)),
    ],
)
def test_slices_are_as_a_radiologist_sees_them(tmp_path, plane, first, down, right):
    """x to the patient's right, y to the front, z up: which voxels are in the upper left corner."""
    save(tmp_path / "a.nii", VALUES, AFFINES["RAS"])
    image = FolderDataset(tmp_path, plane=plane, window=(0, 240))[0].image[..., 0] * 240
    np.testing.assert_allclose(
        [image[0, 0], image[1, 0], image[0, 1]],
        [VALUES[first], VALUES[down], VALUES[right]],
        rtol=1e-5,
    )


def test_volumes_are_as_simpleitk_reads_them(tmp_path):
    path = save(tmp_path / "a.nii.gz", VALUES, AFFINES["LPS"])
    for source in (FolderDataset(tmp_path, rank=3, raw=True), as_source(path, rank=3, raw=True)):
        sample = source[0]
        assert (source.ids, sample.group) == (("a",), "")
        np.testing.assert_array_equal(sample.image[..., 0], VALUES.T)
        assert sample.spacing == (4.0, 3.0, 2.0)
        sample.image[:] = 0
        np.testing.assert_array_equal(source[0].image[..., 0], VALUES.T)


@pytest.mark.parametrize("unit", ["meter", "mm", "micron"])
def test_spacing_is_in_millimetres(tmp_path, unit):
    image = nibabel.Nifti1Image(VALUES, AFFINES["RAS"])
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    times = {"meter": 1000, "mm": 1, "micron": 0.001}[unit]
    np.testing.assert_allclose(FolderDataset(tmp_path)[0].spacing, (3 * times, 2 * times))


def test_labels_of_a_volume_in_another_order(tmp_path):
    save(tmp_path / "images" / "a.nii", VALUES, AFFINES["RAS"])
    image = nibabel.Nifti1Image(VALUES % 7, AFFINES["RAS"])
    turned = image.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    save(tmp_path / "labels" / "a.nii", np.asarray(turned.dataobj), turned.affine)
    np.testing.assert_array_equal(FolderDataset(tmp_path, rank=3)[0].labels, (VALUES % 7).T)
    save(tmp_path / "labels" / "a.nii", VALUES % 7, AFFINES["LPS"])
    sample = FolderDataset(tmp_path, rank=3)[0]
    labels_fail(sample, r"labels/a\.nii: its voxels lie up to .*images/a\.nii")


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_numbers_of_every_type(tmp_path, dtype):
    values = VALUES % 120
    save(tmp_path / "images" / "a.nii", values.astype(dtype), np.eye(4), dtype=dtype)
    save(tmp_path / "labels" / "a.nii", (values % 3).astype(dtype), np.eye(4), dtype=dtype)
    sample = FolderDataset(tmp_path, rank=3, raw=True)[0]
    np.testing.assert_array_equal(sample.image[..., 0], values.T)
    np.testing.assert_array_equal(sample.labels, (values % 3).T)


@pytest.mark.parametrize("dtype", ["u1", "i2"])
def test_label_maps_that_nibabel_has_scaled_are_whole_again(tmp_path, dtype):
    save(tmp_path / "images" / "a.nii", VALUES, np.eye(4))
    (tmp_path / "labels").mkdir()
    labels = nibabel.Nifti1Image((VALUES % 12).astype(np.float64), np.eye(4))
    labels.header.set_data_dtype(dtype)  # floats behind an integer header get a scale
    nibabel.save(labels, tmp_path / "labels" / "a.nii")
    np.testing.assert_array_equal(FolderDataset(tmp_path, rank=3)[0].labels, (VALUES % 12).T)


def test_colours_of_nifti(tmp_path):
    kinds = {"RGB": 3, "RGBA": 3}
    for name in kinds:
        values = np.zeros(VALUES.shape, [(channel, np.uint8) for channel in name])
        values["R"], values["B"] = VALUES, 7
        save(tmp_path / f"{name}.nii", values, np.eye(4))
    for name, sample in zip(kinds, FolderDataset(tmp_path, rank=3), strict=True):
        assert sample.image.shape == (5, 8, 6, kinds[name])
        np.testing.assert_allclose(sample.image[..., 0] * 255, VALUES.T, rtol=1e-6)
        np.testing.assert_allclose(sample.image[0, 0, 0, 1:] * 255, [0, 7], rtol=1e-6)


@pytest.mark.parametrize("axes", [(1,), (1, 1), (1, 2), (2,)])
def test_further_axes_of_one_are_none(tmp_path, axes):
    values = np.broadcast_to(
        VALUES.reshape(*VALUES.shape, *[1] * len(axes)), (*VALUES.shape, *axes)
    )
    save(tmp_path / "a.nii", values, np.eye(4))
    image = FolderDataset(tmp_path, rank=3, raw=True)[0].image
    assert image.shape == (5, 8, 6, axes[-1])
    np.testing.assert_array_equal(image[..., -1], VALUES.T)


def test_volumes_in_npz(tmp_path):
    (tmp_path / "images").mkdir()
    np.savez(tmp_path / "images" / "a.npz", image=VALUES / 240, label=VALUES % 2)
    sample = FolderDataset(tmp_path / "images", rank=3)[0]
    assert sample.image.shape == (6, 8, 5, 1)
    np.testing.assert_array_equal(sample.labels, VALUES % 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plane": "oblique"}, "plane='oblique': give 2 for slices or 3 for volumes, and one of"),
        ({"rank": 4}, "rank=4"),
        ({"raw": True, "window": (0, 1)}, "the numbers of the file; leave window out"),
    ],
)
def test_what_contradicts_itself(tmp_path, options, words):
    save(tmp_path / "a.nii", VALUES, np.eye(4))
    with pytest.raises(ConfigError, match=words):
        FolderDataset(tmp_path, **options)
