"""What a viewer shows is what the model gets, in every mode of PNG, JPEG and TIFF."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.data import MemorySource, as_source, limits
from jaxseg_xai.data.readers import read_image, read_labels
from jaxseg_xai.data.sources.folder import FolderDataset
from tests.support import labels_fail

#: Upright: dark at the top left, each row and column another value.
RAMP = (np.arange(10)[:, None] * 20 + np.arange(12) * 4).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP // 2, 255 - RAMP], axis=-1)
#: Orientation -> how the camera holds the upright picture.
STORED = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: np.swapaxes(x, 0, 1),
    6: np.rot90,
    7: lambda x: np.swapaxes(np.rot90(x, 2), 0, 1),
    8: lambda x: np.rot90(x, -1),
}


def picture(folder, index=0, **options):
    return FolderDataset(folder, **options)[index].image


def png(path, width, height, depth, kind, rows):
    """A PNG file of a bit depth and colour type, whatever Pillow would write."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", content)
        + chunk(b"IEND", b"")
    )


GRAYS = {"1", "L", "LA", "I;16"}


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(".png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [(".jpg", mode) for mode in ("1", "L", "RGB", "CMYK", "YCbCr")]
    + [(".tif", m) for m in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "CMYK", "YCbCr")]
    + [("", m) for m in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "HSV")],
)
def test_every_mode_of_pillow(tmp_path, suffix, mode):
    """In a file of each format that can hold it, and handed over as it is ("")."""
    image = Image.fromarray(COLOURS).convert(mode)
    if mode == "I;16":
        image = Image.fromarray(RAMP.astype(np.uint16) * 257)
    expected = RAMP if mode == "I;16" else image.convert("L" if mode in GRAYS else "RGB")
    if suffix:
        image.save(tmp_path / f"a{suffix}", **({"quality": 100} if suffix == ".jpg" else {}))
        found = picture(tmp_path)
    else:
        found = as_source(image)[0].image
    expected = np.atleast_3d(np.asarray(expected)) / 255
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=0.1 if suffix == ".jpg" else 0.02)


@pytest.mark.parametrize("suffix", [".png", ".tif", ""])
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_label_maps_of_every_mode(tmp_path, suffix, mode):
    indices = RAMP // 80
    image = Image.fromarray(indices)
    if mode == "P":
        image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    image = Image.fromarray(indices.astype(np.uint16)) if mode == "I;16" else image.convert(mode)
    if not suffix:
        found = MemorySource([RAMP], [image])[0].labels
    else:
        for name, what in (("images", Image.fromarray(RAMP)), ("labels", image)):
            (tmp_path / name).mkdir()
            what.save(tmp_path / name / f"a{suffix}")
        found = FolderDataset(tmp_path)[0].labels
    np.testing.assert_array_equal(found, indices)


def test_pictures_handed_over_are_turned_like_their_label_maps(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    for name, pixels in (("a", RAMP), ("b", RAMP // 80)):
        Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(
            tmp_path / f"{name}.png", exif=exif
        )
    with Image.open(tmp_path / "a.png") as image, Image.open(tmp_path / "b.png") as labels:
        sample = as_source(image, labels)[0]
    np.testing.assert_allclose(sample.image[..., 0], RAMP / 255, rtol=1e-6)
    np.testing.assert_array_equal(sample.labels, RAMP // 80)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "f2", "f4", "f8"])
def test_tiff_of_every_type(tmp_path, dtype):
    values = (RAMP // 2).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    largest = np.iinfo(dtype).max if dtype[0] == "u" else 1
    np.testing.assert_allclose(picture(tmp_path)[..., 0], values / largest, rtol=1e-3)
    windowed = picture(tmp_path, window=(10, 90))[..., 0]
    np.testing.assert_allclose(windowed, np.clip((RAMP // 2 - 10.0) / 80, 0, 1), atol=1e-6)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "c8"])
def test_tiff_without_a_range_is_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", (RAMP // 2).astype(dtype))
    remedy = "store it as integers or floats" if dtype == "c8" else "give window"
    with pytest.raises(DataError, match=rf"a\.tif: .*{remedy}"):
        picture(tmp_path)


def test_jpeg_that_pillow_cannot_read_is_not_called_corrupt(tmp_path):
    deep = imagecodecs.jpeg8_encode(RAMP.astype(np.uint16) * 16, bitspersample=12)
    (tmp_path / "a.jpg").write_bytes(deep)
    with pytest.raises(DataError, match=r"a\.jpg: a JPEG that Pillow cannot read \(12 bits"):
        picture(tmp_path)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_the_cameras_orientation_is_applied(tmp_path, suffix, orientation):
    path, stored = tmp_path / f"a{suffix}", np.ascontiguousarray(STORED[orientation](RAMP))
    if suffix == ".tif":
        tifffile.imwrite(path, stored, extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(stored).save(
            path, exif=exif, **({"quality": 100} if suffix == ".jpg" else {})
        )
    np.testing.assert_allclose(picture(tmp_path)[..., 0], RAMP / 255, atol=0.02)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_label_maps_are_turned_like_their_images(tmp_path, suffix):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        stored, exif = np.rot90(RAMP if name == "images" else RAMP // 80), Image.Exif()
        exif[274] = 6
        path = tmp_path / name / f"a{suffix}"
        if suffix == ".png":
            Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
        else:
            tifffile.imwrite(path, stored, extratags=[(274, "H", 1, 6, True)])
    sample = FolderDataset(tmp_path)[0]
    np.testing.assert_array_equal(sample.labels, RAMP // 80)
    np.testing.assert_allclose(sample.image[..., 0], RAMP / 255, rtol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_gray_png_of_few_bits(tmp_path, depth):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        # The values 0 and 1 in the highest bits, whatever the depth.
        rows = [[1 << (8 - 2 * depth)] if depth < 8 else [0, 1]]
        png(tmp_path / name / "a.png", 2, 1, depth, 0, rows)
    sample = FolderDataset(tmp_path)[0]
    np.testing.assert_allclose(sample.image[0, :, 0], [0, 1 / (2**depth - 1)], rtol=1e-6)
    np.testing.assert_array_equal(sample.labels, [[0, 1]])


def test_transparency_of_a_colour_is_not_overlooked(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png", transparency=0)
    Image.fromarray(COLOURS).save(tmp_path / "b.png", transparency=(1, 2, 3))  # in no pixel
    with pytest.raises(DataError, match=r"a\.png: transparent pixels"):
        picture(tmp_path)
    np.testing.assert_allclose(picture(tmp_path, 1), COLOURS / 255, rtol=1e-6)


def test_deep_gray_with_alpha_stays_gray(tmp_path):
    png(tmp_path / "a.png", 2, 1, 16, 4, [[128, 0, 255, 255, 255, 255, 255, 255]])
    image = picture(tmp_path)
    assert image.shape == (1, 2, 1)
    np.testing.assert_allclose(image[0, :, 0], [0.5, 1], atol=0.005)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_tiff_where_white_is_zero(tmp_path, dtype):
    values = RAMP > 100 if dtype is bool else RAMP.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    largest = 1 if dtype is bool else np.iinfo(dtype).max
    expected = (
        (1 - values.astype(float)) if dtype is bool else (largest - RAMP.astype(int)) / largest
    )
    np.testing.assert_allclose(picture(tmp_path)[..., 0], expected, rtol=1e-5)


def test_tiff_with_a_palette_gives_colours_and_as_labels_indices(tmp_path):
    indices = (RAMP // 80).astype(np.uint8)
    palette = np.zeros((3, 256), np.uint16)
    palette[:, 1], palette[0, 2] = 65535, 65535
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "a.tif"
        tifffile.imwrite(path, indices, photometric="palette", colormap=palette)
    sample = FolderDataset(tmp_path)[0]
    np.testing.assert_array_equal(sample.image, palette.T[indices] / 65535)
    np.testing.assert_array_equal(sample.labels, indices)


def test_tiff_of_twelve_bits_is_not_dark(tmp_path):
    values = RAMP.astype(np.uint16) * 16
    tifffile.imwrite(tmp_path / "a.tif", values, bitspersample=12)
    np.testing.assert_allclose(picture(tmp_path)[..., 0], values / 4095, rtol=1e-5)
    windowed = picture(tmp_path, window=(0, 2000))  # in the file's own numbers
    np.testing.assert_allclose(windowed[..., 0], np.clip(values / 2000, 0, 1), rtol=1e-5)


def test_alpha_of_tiff(tmp_path):
    opaque = np.dstack([COLOURS, np.full_like(RAMP, 255)])
    tifffile.imwrite(tmp_path / "a.tif", opaque, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(tmp_path / "b.tif", opaque, photometric="rgb", extrasamples=["unspecified"])
    opaque[0, 0, 3] = 9
    tifffile.imwrite(tmp_path / "c.tif", opaque, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_allclose(picture(tmp_path), COLOURS / 255, rtol=1e-6)
    assert picture(tmp_path, 1).shape[-1] == 4  # a fourth contrast
    with pytest.raises(DataError, match=r"c\.tif: transparent pixels"):
        picture(tmp_path, 2)


def test_tiff_in_printing_colours(tmp_path):
    ink = np.asarray(Image.fromarray(COLOURS).convert("CMYK"))
    tifffile.imwrite(tmp_path / "a.tif", ink, photometric="separated")
    np.testing.assert_allclose(picture(tmp_path), COLOURS / 255, atol=0.02)


@pytest.mark.parametrize("how", ["lzw", "jpeg", "zstd", "packbits", "group4"])
def test_compressed_tiff(tmp_path, how):
    path = tmp_path / "a.tif"
    if how == "group4":
        Image.fromarray(RAMP > 100).save(path, compression="group4")
        np.testing.assert_array_equal(picture(tmp_path)[..., 0], RAMP > 100)
        return
    options = {"compressionargs": {"level": 100}} if how == "jpeg" else {}
    tifffile.imwrite(path, RAMP, compression=how, **options)
    np.testing.assert_allclose(picture(tmp_path)[..., 0], RAMP / 255, atol=0.02)


def test_pictures_above_pillows_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # of 120: Pillow would raise
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    np.testing.assert_allclose(picture(tmp_path)[..., 0], RAMP / 255, rtol=1e-6)
    assert Image.MAX_IMAGE_PIXELS == 40
    monkeypatch.setattr(limits, "MOST_VALUES", 100)
    with pytest.raises(DataError, match=r"a\.png: .* 12 x 10 x 1 numbers, more than 100; cut it"):
        picture(tmp_path)


@pytest.mark.parametrize("compression", [None, "lzw", "jpeg"])
def test_tiff_in_video_colours(tmp_path, compression):
    video = Image.fromarray(COLOURS).convert("YCbCr")
    if compression == "jpeg":  # as libtiff writes it
        video.save(tmp_path / "a.tif", compression="jpeg", quality=95)
    else:
        tifffile.imwrite(
            tmp_path / "a.tif", np.asarray(video), photometric="ycbcr", compression=compression
        )
    np.testing.assert_allclose(picture(tmp_path), COLOURS / 255, atol=0.02)


def test_gif_is_a_picture_and_no_label_map(tmp_path):
    image = Image.fromarray(COLOURS).quantize(200)
    image.save(tmp_path / "a.gif")
    shown = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(picture(tmp_path), shown / np.float32(255))
    labels_fail(MemorySource([COLOURS], [tmp_path / "a.gif"])[0], "a label map of type .gif cannot")
    image.save(tmp_path / "b.gif", save_all=True, append_images=[Image.fromarray(COLOURS[::-1])])
    with pytest.raises(DataError, match=r"b.gif: a film of 2 pictures; save one as a PNG"):
        picture(tmp_path, 1)


@pytest.mark.parametrize("format_name", ["TIFF", "WEBP", "BMP", "PNG"])
def test_the_suffix_may_be_wrong(tmp_path, capfd, format_name):
    """A TIFF of any name is read by the TIFF reader: Pillow's prints what it finds odd."""
    pixels = np.full((8, 8, 3), 40, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", format_name, lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").values, pixels)
    labels = np.eye(8, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "b.png", labels, compression="lzw")
    np.testing.assert_array_equal(read_labels(tmp_path / "b.png"), labels)
    assert capfd.readouterr() == ("", "")


def test_pictures_that_run_programs_are_not_opened(tmp_path):
    """Pillow hands EPS to Ghostscript."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", "EPS")
    with pytest.raises(DataError, match=r"a\.png: corrupt or not what its suffix says"):
        read_image(tmp_path / "a.png")
