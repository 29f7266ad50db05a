"""DICOM series and segmentations: values, places, labels, and what is wrong said."""

import re
import sys

import numpy as np
import pydicom
import pytest

from jaxseg_xai.core.errors import ConfigError, DataError, MissingExtraError
from jaxseg_xai.core.orientation import orientation_of
from jaxseg_xai.data import name_of_source, open_dataset
from jaxseg_xai.sweeps.data import DataConfig
from tests.data import dicom_layout as dicom
from tests.support import labels_fail


def values_of(number):
    """What a series holds, in Hounsfield units, [z, y, x]."""
    return (dicom.stored(number) * dicom.SLOPE + dicom.INTERCEPT).transpose(2, 0, 1)


def classes_of(number):
    """Its labels [z, y, x]."""
    planes = dicom.planes_of(number)
    return (planes[..., 0] + 2 * planes[..., 1]).transpose(2, 0, 1)


@pytest.fixture
def root(tmp_path):
    return dicom.dicom(tmp_path)


def test_series_are_volumes(root):
    assert name_of_source(root) == "dicom"
    source = open_dataset(root, raw=True)
    assert source.ids == ("P17_3", "P17_4", "P18_5")
    assert source.class_names == ("background", "Liver", "Spleen")
    sample = source[0]
    np.testing.assert_array_equal(sample.image[..., 0], values_of(3))
    np.testing.assert_array_equal(sample.labels, classes_of(3))
    assert (sample.group, source[1].group, source[2].group) == ("P17", "P17", "P18")
    assert source[1].labels is None
    assert sample.spacing == (3.0, 1.5, 2.0)
    # x to the left, y to the back: the signs of patients' axes are others in NIfTI.
    expected = [[0, 0, -2, 7], [0, -1.5, 0, -3], [3, 0, 0, -5], [0, 0, 0, 1]]
    np.testing.assert_allclose(sample.affine, expected)
    assert orientation_of(sample.affine, 3) == "S P L"


def test_slices_of_a_plane(root):
    axial = open_dataset(root, rank=2, raw=True)
    assert (len(axial), axial.ids[5], axial[5].group) == (3 * 4, "P17_4#001", "P17")
    np.testing.assert_array_equal(axial[5].image[..., 0], values_of(4)[1])
    np.testing.assert_array_equal(axial[2].labels, classes_of(3)[2])
    assert (axial[2].spacing, orientation_of(axial[2].affine, 2)) == ((1.5, 2.0), "P L")
    coronal = open_dataset(root, rank=2, plane="coronal", raw=True)
    sample = coronal[1]  # the second from the back, head up
    np.testing.assert_array_equal(sample.image[..., 0], values_of(3)[::-1, 4])
    np.testing.assert_array_equal(sample.labels, classes_of(3)[::-1, 4])
    assert (sample.spacing, orientation_of(sample.affine, 2)) == ((3.0, 2.0), "I L")


def test_the_window_is_that_of_the_headers_or_given(tmp_path):
    folder = dicom.series(tmp_path / "a", 3, WindowCenter=["40", "300"], WindowWidth=["401", "9"])
    values = values_of(3)
    expected = np.clip((values + 160.5) / 400, 0, 1)  # DICOM's linear function, C.11.2.1.2
    np.testing.assert_allclose(open_dataset(folder)[0].image[..., 0], expected, atol=1e-5)
    given = open_dataset(folder, window=(-100, 100))[0].image[..., 0]
    np.testing.assert_allclose(given, np.clip((values + 100) / 200, 0, 1), atol=1e-6)
    plain = dicom.series(tmp_path / "b", 3)
    lo, hi = np.percentile(values, (0.5, 99.5))
    expected = np.clip((values - lo) / (hi - lo), 0, 1)
    np.testing.assert_allclose(open_dataset(plain)[0].image[..., 0], expected, atol=1e-5)


def test_bright_and_dark_are_put_right(tmp_path):
    folder = dicom.series(tmp_path, 3, PhotometricInterpretation="MONOCHROME1")
    shown = open_dataset(folder, window=(-100, 100))[0].image[..., 0]
    np.testing.assert_allclose(shown, 1 - np.clip((values_of(3) + 100) / 200, 0, 1), atol=1e-6)


def test_pictures(tmp_path):
    dicom.picture(tmp_path / "x.dcm", 8)
    source = open_dataset(tmp_path, rank=2, raw=True)
    assert source.ids == ("P17_8",)
    np.testing.assert_array_equal(source[0].image[..., 0], dicom.stored(8)[..., 0])
    with pytest.raises(DataError, match=r"x.dcm: a picture, no volume; use a model of images"):
        open_dataset(tmp_path, rank=3)[0]


def test_classes_of_a_model_go_by_name(root):
    source = open_dataset(root, class_names=("background", "spleen", "liver"))
    swapped = np.array([0, 2, 1])[classes_of(3)]
    np.testing.assert_array_equal(source[0].labels, swapped)
    other = open_dataset(root, class_names=("background", "spleen"))
    labels_fail(other[0], r"SEG.dcm: its segment 'Liver' is none of the classes \(background, spl")


def test_segments_that_overlap(root):
    planes = np.ones((*dicom.SIZE, 2), bool)
    path = dicom.segmentation(root / "P17/seg/SEG.dcm", root / "P17/S3", planes)
    labels_fail(open_dataset(root)[0], rf"{re.escape(str(path))}: its segments overlap; set overl")
    config = DataConfig(source=str(root), options={"overlapping": True})
    source = config.open(None)[0]
    assert source.class_names == ("Liver", "Spleen")
    assert source[0].labels.shape == (4, 6, 5, 2)
    assert source[0].labels.all()


def test_a_segmentation_of_another_grid(root):
    other = dicom.series(root / "P17/S3", 3, ImageOrientationPatient=[0.8, 0.6, 0, -0.6, 0.8, 0])
    labels_fail(open_dataset(other.parent)[0], r"SEG.dcm: its voxels are not those of the images")


@pytest.mark.parametrize("places", [[0.0, 3.0, 6.0, 12.0], [0.0, 3.0, 3.0, 6.0]])
def test_slices_that_make_no_volume_fail_alone(tmp_path, places):
    dicom.series(tmp_path / "bad", 1, places=places)
    dicom.series(tmp_path / "good", 2)
    for rank in (2, 3):
        source = open_dataset(tmp_path, rank=rank)
        assert source.ids[0] == "P17_1"
        with pytest.raises(
            DataError, match=r"bad \(series P17_1\): its slices lie . to . mm apart"
        ):
            source[0]
        assert source[1].image.any()


def test_a_compression_that_nothing_reads(tmp_path, monkeypatch):
    folder = dicom.series(tmp_path, 3)
    path = sorted(folder.iterdir())[0]
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLossless
    image.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    image["PixelData"].is_undefined_length = True
    image.save_as(path)

    class Absent:
        is_available = False

    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda syntax: Absent)
    with pytest.raises(DataError, match=r"IM0000: compressed as JPEG Lossless.*pip install pylib"):
        open_dataset(folder)[0]


def test_files_that_are_cut_off_or_of_other_kinds(tmp_path, caplog):
    folder = dicom.series(tmp_path, 3)
    (folder / "notes.txt").write_text("left kidney")
    (folder / "DICOMDIR").write_bytes(b"")
    path = sorted(folder.glob("IM*"))[0]
    path.write_bytes(path.read_bytes()[:-20])
    source = open_dataset(folder)
    assert "left out are 2 other files" in caplog.text
    with pytest.raises(DataError, match=r"series P17_3\): corrupt or .*; export it again"):
        source[0]


def damaged(path, **changes):
    """Set elements of a file whatever DICOM says of them; None takes one out."""
    image = pydicom.dcmread(path)
    for segment in (image, *image.get("SegmentSequence", ())):
        for name, value in changes.items():
            if name in segment and value is None:
                delattr(segment, name)
            elif name in segment:
                setattr(segment, name, value)
    image.save_as(path)


def test_headers_that_lack_what_they_must_have_are_one_line(root, recwarn):
    (segmentation,) = root.rglob("SEG*.dcm")
    damaged(segmentation, SegmentLabel=None)
    with pytest.raises(DataError, match=r"SEG.dcm: corrupt .*SegmentLabel.*; export it again"):
        open_dataset(root, raw=True)
    segmentation.unlink()
    for path in (root / "P18").rglob("IM*"):
        damaged(path, ImageOrientationPatient=None)
    for path in (root / "P17").rglob("IM*"):
        damaged(path, PixelSpacing=None)
    source = open_dataset(root, raw=True)
    with pytest.raises(DataError, match=r"series P17_3\): corrupt .*; export it again"):
        source[0]
    assert not recwarn.list


def test_no_series(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}: no DICOM image in it; name the folder"):
        open_dataset("dicom", root=tmp_path)
    with pytest.raises(DataError, match="none: no such folder; name the folder of the DICOM"):
        open_dataset("dicom", root=tmp_path / "none")
    with pytest.raises(ConfigError, match="rank=4, plane='axial': give 2 for slices"):
        open_dataset("dicom", root=tmp_path, rank=4)


def test_without_the_extra(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r"reading DICOM needs .*jaxseg-xai\[dicom\]"):
        open_dataset(root)


def test_a_folder_of_other_images_is_no_dicom_folder(root):
    np.savez(root / "a.npz", image=np.eye(4))
    assert name_of_source(root) == "folder"
