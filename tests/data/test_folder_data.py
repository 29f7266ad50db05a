"""Folders of images: every format, how values and channels are read, where label maps are found."""

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxseg_xai.data.sources.folder import FolderDataset

GRAY = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
COLORS = np.stack([GRAY, GRAY[::-1], GRAY // 2], axis=-1)


def item(root, index=0, **options):
    return FolderDataset(root, **options)[index]


def test_png_gray_and_rgb(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    Image.fromarray(COLORS).save(tmp_path / "b.PNG")
    (tmp_path / ".hidden").write_text("ignored")
    (tmp_path / "sub").mkdir()
    dataset = FolderDataset(tmp_path)
    assert (dataset.ids, len(dataset), dataset.class_names) == (("a", "b"), 2, ())
    gray, colors = dataset[0], dataset[1]
    assert gray.id == "a"
    assert gray.image.dtype == np.float32
    np.testing.assert_allclose(gray.image[..., 0], GRAY / 255, rtol=1e-6)
    np.testing.assert_allclose(colors.image, COLORS / 255, rtol=1e-6)
    assert gray.labels is None


def test_png_16_bit_and_bilevel(tmp_path):
    Image.fromarray(GRAY.astype(np.uint16) * 256).save(tmp_path / "deep.png")
    Image.fromarray(GRAY > 100).save(tmp_path / "flat.png")
    np.testing.assert_allclose(item(tmp_path).image[..., 0], GRAY * 256.0 / 65535, rtol=1e-6)
    np.testing.assert_array_equal(item(tmp_path, 1).image[..., 0], GRAY > 100)


def test_png_palette_gives_colours(tmp_path):
    image = Image.fromarray((GRAY > 100).astype(np.uint8), mode=None).convert("P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.save(tmp_path / "a.png")
    pixels = item(tmp_path).image
    np.testing.assert_array_equal(pixels[..., 0], GRAY <= 100)
    np.testing.assert_array_equal(pixels[..., 2], GRAY > 100)


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 3), ("LA", 1)])
def test_opaque_alpha_is_dropped(tmp_path, mode, channels):
    Image.fromarray(COLORS).convert(mode).save(tmp_path / "a.png")
    assert item(tmp_path, channels=channels).image.shape == (10, 12, channels)


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_jpeg(tmp_path, mode):
    smooth = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8), (32, 32))
    Image.fromarray(smooth).convert("RGB").convert(mode).save(tmp_path / "a.jpg", quality=95)
    image = item(tmp_path).image
    assert image.shape == (32, 32, 1 if mode == "L" else 3)
    np.testing.assert_allclose(image[..., 0], smooth / 255, atol=0.03)


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_16_bit(tmp_path, byteorder):
    tifffile.imwrite(tmp_path / "a.tif", GRAY.astype(np.uint16) * 256, byteorder=byteorder)
    image = item(tmp_path).image
    assert image.dtype == np.dtype(np.float32)
    np.testing.assert_allclose(image[..., 0], GRAY * 256.0 / 65535, rtol=1e-6)


def test_tiff_channels_last_and_first_and_float(tmp_path):
    tifffile.imwrite(tmp_path / "a.tiff", COLORS, photometric="rgb")
    planes = np.moveaxis(COLORS, -1, 0)
    tifffile.imwrite(tmp_path / "b.tiff", planes, photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "c.tiff", GRAY.astype(np.float32) * 3)
    np.testing.assert_allclose(item(tmp_path, 0).image, COLORS / 255, rtol=1e-6)
    np.testing.assert_allclose(item(tmp_path, 1).image, COLORS / 255, rtol=1e-6)
    np.testing.assert_array_equal(item(tmp_path, 2).image[..., 0], GRAY * 3.0)


def test_npz_as_it_is_or_windowed(tmp_path):
    np.savez(tmp_path / "a.npz", image=GRAY.astype(np.int16) - 50, label=GRAY > 100)
    sample = item(tmp_path)
    np.testing.assert_array_equal(sample.image[..., 0], GRAY - 50.0)
    np.testing.assert_array_equal(sample.labels, GRAY > 100)
    assert sample.labels.dtype == np.int32
    windowed = item(tmp_path, window=(0, 100)).image[..., 0]
    np.testing.assert_allclose(windowed, np.clip((GRAY - 50.0) / 100, 0, 1), rtol=1e-6)


def test_window_is_in_the_numbers_of_the_file(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    windowed = item(tmp_path, window=(20, 120)).image[..., 0]
    np.testing.assert_allclose(windowed, np.clip((GRAY - 20.0) / 100, 0, 1), rtol=1e-6)


def volume():
    """[X, Y, Z] = [6, 8, 5] with x to the right, y to the front, z up; all values differ."""
    return np.arange(240, dtype=np.float32).reshape(6, 8, 5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_slices(tmp_path, suffix):
    nibabel.save(nibabel.Nifti1Image(volume(), np.eye(4)), tmp_path / f"head{suffix}")
    dataset = FolderDataset(tmp_path, window=(0, 240))
    assert dataset.ids == tuple(f"head#{level:03d}" for level in range(5))
    sample = dataset[3]
    assert sample.image.shape == (8, 6, 1)
    # First row: the front (largest y); first column: the right (largest x).
    assert sample.image[0, 0, 0] == pytest.approx(volume()[5, 7, 3] / 240)
    assert sample.image[7, 5, 0] == pytest.approx(volume()[0, 0, 3] / 240)
    assert sample.image[0, 5, 0] == pytest.approx(volume()[0, 7, 3] / 240)


def test_nifti_orientation_comes_from_the_affine(tmp_path):
    nibabel.save(nibabel.Nifti1Image(volume(), np.eye(4)), tmp_path / "a.nii")
    # The same head stored with z first and upside down, then y, then x to the left.
    turned = volume()[::-1, :, ::-1].transpose(2, 1, 0)
    affine = np.array([[0, 0, -1, 5], [0, 1, 0, 0], [-1, 0, 0, 4], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(turned, affine), tmp_path / "b.nii")
    dataset = FolderDataset(tmp_path)
    assert len(dataset) == 10
    for level in range(5):
        np.testing.assert_array_equal(dataset[level].image, dataset[5 + level].image)


def test_nifti_default_window_is_a_percentile_range(tmp_path):
    values = volume()
    values[0, 0, 0] = 1e6
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    dataset = FolderDataset(tmp_path)
    lo, hi = np.percentile(values, (0.5, 99.5))
    expected = np.clip((values[:, :, 2] - lo) / (hi - lo), 0, 1)[::-1, ::-1].T
    np.testing.assert_allclose(dataset[2].image[..., 0], expected, rtol=1e-5)


def test_nifti_with_channels(tmp_path):
    both = np.stack([volume(), 2 * volume()], axis=-1)
    nibabel.save(nibabel.Nifti1Image(both, np.eye(4)), tmp_path / "a.nii.gz")
    image = item(tmp_path, 1, window=(0, 480), channels=2).image
    assert image.shape == (8, 6, 2)
    np.testing.assert_allclose(image[..., 1], 2 * image[..., 0], rtol=1e-6)


@pytest.mark.parametrize("kind", ["gray", "palette", "tiff", "npz"])
def test_label_maps_keep_their_indices(tmp_path, kind):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(GRAY).save(tmp_path / "images" / "x.png")
    labels = (GRAY // 80).astype(np.uint8)
    target = tmp_path / "labels" / "x.png"
    if kind == "gray":
        Image.fromarray(labels).save(target)
    elif kind == "palette":
        image = Image.frombytes("P", (12, 10), labels.tobytes())
        image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        image.save(target)
    elif kind == "tiff":
        tifffile.imwrite(target.with_suffix(".tif"), labels.astype(np.uint16))
    else:
        np.savez(target.with_suffix(".npz"), labels)
    sample = item(tmp_path, class_names=("a", "b", "c"))
    np.testing.assert_array_equal(sample.labels, labels)
    assert sample.labels.dtype == np.int32


def test_labels_elsewhere_and_nifti_labels(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "truth").mkdir()
    nibabel.save(nibabel.Nifti1Image(volume(), np.eye(4)), tmp_path / "scans" / "a.nii.gz")
    truth = (volume() % 3).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(truth, np.eye(4)), tmp_path / "truth" / "a.nii")
    sample = item(tmp_path / "scans", 2, labels=tmp_path / "truth", class_names=("a", "b", "c"))
    np.testing.assert_array_equal(sample.labels, truth[::-1, ::-1, 2].T)
