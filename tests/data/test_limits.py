"""Small files that promise much are refused before memory is taken; parts that lack are seen."""

import gzip
import io
import struct
import tracemalloc
import zipfile
import zlib

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxseg_xai.core.errors import DataError, ModelError
from jaxseg_xai.data import limits
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.models.weights import read_weights
from tests.data.test_pictures import png

NOISE = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)


def png_of_any_size(path):
    png(path, 30_000, 30_000, 8, 2, [bytes(60)])


def jpeg_of_any_size(path):
    Image.fromarray(NOISE).save(path)
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 65_000, 65_000)
    path.write_bytes(content)


def tiff_of_any_size(path):
    tifffile.imwrite(path, NOISE, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[name].overwrite(2**30)


def nifti_header(size, kind=nibabel.Nifti1Header):
    header = kind()
    header.set_data_dtype(np.int16)
    header.set_data_shape(size)
    header["magic"] = b"n+1" if kind is nibabel.Nifti1Header else header["magic"]
    header["vox_offset"] = 352 if kind is nibabel.Nifti1Header else 544
    header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3]
    header["sform_code"] = 1
    return header.binaryblock + bytes(4 + 96)


def npz_of_any_size(path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image.npy", stream.getvalue() + bytes(100))


BOMBS = {
    "a.png": (png_of_any_size, "promises 30000 x 30000 x 3 numbers, more than a file of"),
    "a.jpg": (jpeg_of_any_size, "promises 65000 x 65000 x 1 numbers, more than a file of"),
    "a.tif": (tiff_of_any_size, "promises 1073741824 x 1073741824 numbers, more than a file of"),
    "a.nii": (
        lambda path: path.write_bytes(nifti_header((10_000, 10_000, 10_000))),
        "promises 10000 x 10000 x 10000 numbers, more than a file of",
    ),
    "a.nii.gz": (
        lambda path: path.write_bytes(gzip.compress(nifti_header((10_000, 10_000, 10_000)))),
        "promises 10000 x 10000 x 10000 numbers, more than a file of",
    ),
    "b.nii": (
        lambda path: path.write_bytes(nifti_header((10**6, 10**6, 10**6), nibabel.Nifti2Header)),
        "promises 1000000 x 1000000 x 1000000 numbers, more than a file of",
    ),
    "a.npz": (npz_of_any_size, "does not fit into the memory|corrupt"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_that_promises_more_than_its_file_holds(tmp_path, name):
    write, words = BOMBS[name]
    write(tmp_path / name)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=words) as caught:
            FolderDataset(tmp_path)[0]
        if name != "a.npz":  # for which NumPy asks for memory that it does not touch
            assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert f"{tmp_path / name}: " in str(caught.value)


def test_an_archive_that_unpacks_to_more_than_is_read(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", image=np.zeros((2000, 2000), np.uint8))
    monkeypatch.setattr("jaxseg_xai.data.readers.MOST_BYTES", 10**6)
    with pytest.raises(DataError, match=r"a\.npz: corrupt .*4,000,128 bytes unpacked, more than"):
        FolderDataset(tmp_path)[0]


@pytest.mark.parametrize("name", ["a.tif", "a.nii", "a.nii.gz"])
def test_more_numbers_than_are_read(tmp_path, name, monkeypatch):
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, NOISE)
    else:
        nibabel.save(nibabel.Nifti1Image(NOISE[None], np.eye(4)), tmp_path / name)
    FolderDataset(tmp_path)[0]
    monkeypatch.setattr(limits, "MOST_VALUES", 1000)
    with pytest.raises(DataError, match=rf"{name}: .* 64 x 64 .*more than 1,000; cut it"):
        FolderDataset(tmp_path)[0]


@pytest.mark.parametrize("tag", ["StripOffsets", "StripByteCounts"])
def test_strips_that_are_not_in_the_file_are_not_shown_as_black(tmp_path, tag):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, NOISE, rowsperstrip=16, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        values = list(file.pages[0].tags[tag].value)
        file.pages[0].tags[tag].overwrite([*values[:-1], 60_000])
    with pytest.raises(DataError, match=r"a\.tif: cut off or corrupt, strips or tiles"):
        FolderDataset(tmp_path)[0]


def test_pages_without_end(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((1001, 4, 4), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"a\.tif: more than 1000 pages; save one image per file"):
        FolderDataset(tmp_path)[0]


@pytest.mark.parametrize("name", ["w.npz", "w.npy"])
def test_weights_that_are_no_arrays(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr(name, "text")
    with pytest.raises(ModelError, match=r"w\.npz: damaged weight file \(w\S* is no array\)"):
        read_weights(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("dtype", "options", "most"),
    [("u1", {}, 6), ("u2", {}, 7), ("f4", {}, 10), ("u1", {"window": (0, 9)}, 21), ("nii", {}, 24)],
)
def test_memory_that_reading_takes(tmp_path, dtype, options, most):
    """Bytes a number at the peak, as docs/guide/data.md has them."""
    values = np.arange(10**6).reshape(1000, 1000) % 200
    if dtype == "nii":
        values = values.astype(np.int16).reshape(100, 100, 100)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    else:
        tifffile.imwrite(tmp_path / "a.tif", values.astype(dtype))
    source = FolderDataset(tmp_path, **options)
    source[0]
    tracemalloc.start()
    try:
        source = FolderDataset(tmp_path, **options)
        source[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / values.size < most


def test_a_message_stays_one_readable_line():
    error = DataError(f"a\n\x1b[31m{'x' * 10_000}.png: corrupt; export it again")
    assert str(error).isprintable()
    assert len(str(error)) < 800
    assert str(error).endswith("corrupt; export it again")


def test_text_chunks_of_png_do_not_fill_the_memory(tmp_path):
    """Pillow's own limit: a compressed comment of a gigabyte."""
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path)
    content = path.read_bytes()
    data = b"a\0\0" + zlib.compress(bytes(10**8))
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + data))
    path.write_bytes(content[:33] + chunk + content[33:])
    with pytest.raises(DataError, match=r"a\.png: corrupt"):
        FolderDataset(tmp_path)[0]
