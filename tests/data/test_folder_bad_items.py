"""Every bad item fails alone, with one line that names the file and what to do."""

import re
import sys

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxseg_xai.core.errors import ConfigError, DataError, EmptyImageError, MissingExtraError
from jaxseg_xai.data.sources.folder import FolderDataset

GRAY = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
COLORS = np.stack([GRAY, GRAY[::-1], GRAY // 2], axis=-1)


def fails(root, message, index=0, name=None, error=DataError, **options):
    dataset = FolderDataset(root, **options)
    with pytest.raises(error, match=message) as caught:
        dataset[index]
    check_line(str(caught.value), root, name or dataset.ids[index].split("#")[0])


def labels_fail(root, message, index=0, **options):
    """The image is there; its labels say why they are not."""
    dataset = FolderDataset(root, **options)
    sample = dataset[index]
    assert sample.labels is None
    assert isinstance(sample.labels_error, DataError)
    assert re.search(message, str(sample.labels_error))
    check_line(str(sample.labels_error), root, dataset.ids[index].split("#")[0])
    assert FolderDataset(root, read_labels=False, **options)[index].labels_error is None


def check_line(text, root, name):
    assert "\n" not in text
    assert str(root) in text
    assert name in text


def save_volume(values, path):
    nibabel.save(nibabel.Nifti1Image(np.asarray(values), np.eye(4)), path)


def truncate(path, keep=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def write(path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (64, 64), dtype=np.uint8)
    if path.suffix in (".png", ".jpg"):
        Image.fromarray(noise).save(path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, noise, compression="zlib")
    elif path.suffix == ".npz":
        np.savez(path, image=noise)
    else:
        save_volume(rng.normal(size=(16, 16, 4)).astype(np.float32), path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.npz", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_corrupt(tmp_path, name, damage):
    path = tmp_path / name
    write(path)
    FolderDataset(tmp_path)[0]
    if damage == "truncated":
        truncate(path)
    else:
        path.write_bytes(b"not an image at all" * 40 if damage == "garbage" else b"")
    good = tmp_path / "b.png"
    Image.fromarray(GRAY).save(good)
    fails(tmp_path, "corrupt or not what its suffix says|cut off or corrupt", name=name)
    dataset = FolderDataset(tmp_path)
    assert dataset[len(dataset) - 1].id == "b"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("window", [None, (0, 1)])
def test_not_finite(tmp_path, value, window):
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8).copy()
    image[3, 3] = value
    np.savez(tmp_path / "a.npz", image=image)
    save_volume(np.stack([image, np.nan_to_num(image, posinf=0)], axis=-1), tmp_path / "b.nii")
    fails(tmp_path, "NaN or infinite pixels; replace them", window=window)
    fails(tmp_path, "b.nii#000: NaN or infinite pixels", index=1, window=window)
    assert FolderDataset(tmp_path, window=window)[2].id == "b#001"


def test_volume_without_a_finite_voxel(tmp_path):
    save_volume(np.full((4, 4, 2), np.nan, np.float32), tmp_path / "a.nii")
    fails(tmp_path, "NaN or infinite pixels")


def test_constant(tmp_path):
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "a.png")
    save_volume(np.full((4, 4, 2), 7, np.float32), tmp_path / "b.nii")
    Image.fromarray(GRAY).save(tmp_path / "c.png")
    fails(tmp_path, "a constant image", error=EmptyImageError)
    fails(tmp_path, "b.nii#000: a constant image", index=1, error=EmptyImageError)
    fails(tmp_path, "check the window", index=3, window=(1000, 2000))


def test_wrong_channels(tmp_path):
    Image.fromarray(COLORS).save(tmp_path / "a.png")
    Image.fromarray(GRAY).save(tmp_path / "b.png")
    fails(tmp_path, "3 channels, but 1 are needed", channels=1)
    fails(tmp_path, "1 channels, but 3 are needed", index=1, channels=3)


def test_transparency_and_odd_colours(tmp_path):
    image = Image.fromarray(COLORS).convert("RGBA")
    image.putalpha(100)
    image.save(tmp_path / "a.png")
    palette = Image.frombytes("P", (12, 10), (GRAY // 80).tobytes())
    palette.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    palette.save(tmp_path / "b.png", transparency=0)
    fails(tmp_path, "transparent pixels; flatten")
    fails(tmp_path, "transparent pixels; flatten", index=1)


def test_tiff_stacks_and_signed_integers(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GRAY] * 5), photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", GRAY.astype(np.int16))
    fails(tmp_path, "one image per file")
    fails(tmp_path, "int16 has no natural range; give window", index=1)
    assert FolderDataset(tmp_path, window=(0, 255))[1].image.max() == pytest.approx(238 / 255)


def test_npz_content(tmp_path):
    np.savez(tmp_path / "a.npz", picture=GRAY)
    np.savez(tmp_path / "b.npz", image=np.zeros((2, 3, 4, 5)))
    np.savez(tmp_path / "c.npz", image=GRAY.astype(str))
    np.savez(tmp_path / "d.npz", image=np.array([{"a": 1}], dtype=object))
    fails(tmp_path, r"no array 'image' among \['picture'\]")
    fails(tmp_path, r"shape \(2, 3, 4, 5\)", index=1)
    fails(tmp_path, "store it as integers or floats", index=2)
    fails(tmp_path, "corrupt", index=3)


def test_nifti_with_too_few_axes(tmp_path):
    save_volume(GRAY.astype(np.float32), tmp_path / "a.nii")
    fails(tmp_path, "it must be 3-D, or 4-D with channels")


def with_labels(tmp_path, labels, suffix=".png"):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.fromarray(GRAY).save(tmp_path / "images" / "a.png")
    if labels is not None:
        path = tmp_path / "labels" / f"a{suffix}"
        if suffix == ".png":
            Image.fromarray(labels).save(path)
        else:
            np.savez(path, label=labels)
    return tmp_path


def test_label_size(tmp_path):
    labels_fail(with_labels(tmp_path, GRAY.T.copy() % 2), "label map is 12x10, its image 10x12")


def test_label_out_of_range(tmp_path):
    root = with_labels(tmp_path, np.where(GRAY > 200, 255, 1).astype(np.uint8))
    labels_fail(root, r"label 255 is out of range \(0 to 1\)", class_names=("a", "b"))
    assert FolderDataset(root)[0].labels.max() == 255


def test_negative_and_fractional_labels(tmp_path):
    root = with_labels(tmp_path, GRAY.astype(np.int32) - 3, ".npz")
    labels_fail(root, "label -3 is out of range")
    np.savez(root / "labels" / "a.npz", label=GRAY / 7)
    labels_fail(root, "fractions or NaN")


def test_label_with_colours(tmp_path):
    labels_fail(with_labels(tmp_path, COLORS), "a label map with colours")


def test_label_corrupt(tmp_path):
    root = with_labels(tmp_path, GRAY % 2)
    truncate(root / "labels" / "a.png")
    labels_fail(root, "labels.a.png: corrupt")


def test_label_missing_twice_or_of_another_kind(tmp_path):
    root = with_labels(tmp_path, None)
    labels_fail(root, r"no label maps named a\.\*")
    np.savez(root / "labels" / "a.npz", label=GRAY % 2)
    Image.fromarray(GRAY % 2).save(root / "labels" / "a.png")
    labels_fail(root, r"2 label maps named a\.\*")
    (root / "labels" / "a.npz").unlink()
    (root / "labels" / "a.png").rename(root / "labels" / "a.jpg")
    labels_fail(
        root, "JPEG changes the numbers of a label map; save it as PNG, or set labels.threshold"
    )
    (root / "labels" / "a.jpg").unlink()
    save_volume(np.zeros((12, 10, 2), np.int16), root / "labels" / "a.nii")
    labels_fail(root, "a NIfTI image needs a NIfTI label map")


def test_nifti_labels_with_fewer_slices(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    values = np.arange(96, dtype=np.float32).reshape(4, 6, 4)
    save_volume(values, tmp_path / "images" / "a.nii")
    save_volume((values[:, :, :2] > 40).astype(np.int16), tmp_path / "labels" / "a.nii")
    labels_fail(tmp_path, r"4x6x2 voxels, its image \S+ 4x6x4; resample", index=1)


def test_unsupported_suffix_is_an_item_that_fails(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    (tmp_path / "a.bmp").write_bytes(b"BM")
    dataset = FolderDataset(tmp_path)
    assert dataset.ids == ("a.bmp", "a")
    fails(tmp_path, "an image of type .bmp cannot be read; convert it to one of .png")
    assert dataset[1].id == "a"


def test_folders(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        FolderDataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no image in the folder; supported"):
        FolderDataset(tmp_path)
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        FolderDataset(tmp_path, labels=tmp_path / "nowhere")
    Image.fromarray(GRAY).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="same stem; rename one of them"):
        FolderDataset(tmp_path)


def test_file_without_permission(tmp_path, monkeypatch):
    Image.fromarray(GRAY).save(tmp_path / "a.png")

    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refused)
    fails(tmp_path, "no permission to read it; ask for it")


def test_file_that_vanished(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    dataset = FolderDataset(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="no such file"):
        dataset[0]


@pytest.mark.parametrize("window", [(1, 1), (2, 1), (0, np.inf), (1,), "ab"])
def test_bad_window(tmp_path, window):
    with pytest.raises(ConfigError, match="window="):
        FolderDataset(tmp_path, window=window)


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("tifffile", "a.tif", "tiff"), ("nibabel", "a.nii", "medical")]
)
def test_missing_extra(tmp_path, monkeypatch, module, name, extra):
    write(tmp_path / name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"jaxseg-xai\[{extra}\]"):
        FolderDataset(tmp_path)[0]
