"""Files and data sets of images.

A further format is a line in `PICTURES`; data sets in a layout of their own come from
`tests/contracts/test_sources.py`.
"""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from PIL import Image

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.types import Sample, Source
from jaxseg_xai.data import open_dataset
from jaxseg_xai.data.label_values import LabelValues
from jaxseg_xai.data.sources.folder import FolderDataset
from tests.contracts import test_sources
from tests.fuzz.target import Refused, Target

RNG = np.random.default_rng(0)
RAMP = np.arange(480, dtype=np.uint16).reshape(20, 24).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)
PLANES = np.moveaxis(COLOURS, -1, 0)
VOLUME = RNG.integers(0, 900, (9, 8, 7), dtype=np.int16)


def check_sample(sample: Sample) -> None:
    """What every item of a source keeps."""
    image, labels = sample.image, sample.labels
    rank = image.ndim - 1
    assert image.dtype == np.float32, image.dtype
    assert rank in (2, 3), image.shape
    assert np.isfinite(image).all()
    assert sample.affine is None or np.isfinite(sample.affine).all()
    assert sample.spacing is None or min(sample.spacing) > 0
    if labels is not None:
        assert labels.dtype in (np.int32, bool), labels.dtype
        assert labels.shape[:rank] == image.shape[:-1], labels.shape


def read_items(source: Source) -> None:
    """Every item of a source; what cannot be read is collected."""
    reasons = []
    for index in range(len(source)):
        try:
            sample = source[index]
        except JaxsegError as error:
            reasons.append(str(error))
            continue
        check_sample(sample)
        if sample.labels_error is not None:
            reasons.append(str(sample.labels_error))
    if reasons:
        raise Refused(reasons)


def read_folder(folder: Path, **options) -> None:
    read_items(FolderDataset(folder, **options))


def picture(name: str, write: Callable[[Path], object], is_grey: bool = True) -> Target:
    """A file as image, once more as its own mask, and where it may be as its own label map."""

    def read(folder: Path) -> None:
        read_folder(folder)
        read_folder(folder, labels=folder, label_values=LabelValues(threshold=9))
        if is_grey:
            read_folder(folder, labels=folder, window=(0, 200))

    return Target(lambda folder: write(folder / name), read)


def pillow(mode: str, **options) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        if mode == "I;16":
            image = Image.fromarray(RAMP.astype(np.uint16) * 200)
        else:
            image = Image.fromarray(COLOURS).convert(mode)
        image.save(path, **options)

    return write


def exif() -> Image.Exif:
    found = Image.Exif()
    found[274] = 6
    return found


def tiff(values: np.ndarray, **options) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, values, **options)


def nifti(values: np.ndarray, kind=nibabel.Nifti1Image) -> Callable[[Path], None]:
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    return lambda path: nibabel.save(kind(values, affine), path)


def npz(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.savez_compressed(path, **arrays)


#: Kinds of files with one image: name -> (file, what writes it).
PICTURES = {
    **{f"png-{mode}": ("a.png", pillow(mode)) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "png-16": ("a.png", pillow("I;16")),
    "png-exif": ("a.png", pillow("L", exif=exif())),
    "png-clear": ("a.png", pillow("P", transparency=7)),
    **{f"jpeg-{mode}": ("a.jpg", pillow(mode)) for mode in ("L", "RGB", "CMYK")},
    "jpeg-exif": ("a.jpg", pillow("RGB", exif=exif())),
    "jpeg-progressive": ("a.jpg", pillow("RGB", progressive=True)),
    **{
        f"tiff-{how}": ("a.tif", tiff(RAMP, compression=how))
        for how in ("none", "lzw", "zlib", "zstd", "packbits", "lzma", "jpeg", "jpegxl")
    },
    "tiff-jpeg2000": ("a.tif", tiff(RAMP, compression="jpeg2000")),
    "tiff-webp": ("a.tif", tiff(COLOURS, compression="webp")),
    "tiff-predictor": ("a.tif", tiff(COLOURS, compression="zlib", predictor=True)),
    "tiff-planes": ("a.tif", tiff(PLANES, photometric="rgb", planarconfig="separate")),
    "tiff-tiles": ("a.tif", tiff(COLOURS, photometric="rgb", tile=(16, 16))),
    "tiff-float": ("a.tif", tiff(RAMP.astype(np.float32))),
    "tiff-palette": (
        "a.tif",
        tiff(RAMP, photometric="palette", colormap=np.arange(768, dtype=np.uint16).reshape(3, 256)),
    ),
    "tiff-12": ("a.tif", tiff(RAMP.astype(np.uint16), bitspersample=12)),
    "tiff-big": ("a.tif", tiff(RAMP, bigtiff=True, metadata={"axes": "YX"})),
    "tiff-stack": ("a.tif", tiff(np.stack([RAMP] * 3), photometric="minisblack")),
    "tiff-group4": ("a.tif", pillow("1", compression="group4")),
    "tiff-pillow-jpeg": ("a.tif", pillow("YCbCr", compression="jpeg")),
    "gif": ("a.gif", pillow("P")),
    "npz": ("a.npz", npz(image=COLOURS, label=RAMP % 3)),
    "npz-float": ("a.npz", npz(image=RAMP / 7.0, label=RAMP > 9)),
}


#: Those with colours, which are no label maps.
COLOURED = {"png-RGB", "png-RGBA", "png-clear", "tiff-stack", "tiff-pillow-jpeg", "tiff-webp"}
COLOURED |= {"gif", "tiff-predictor", "tiff-planes", "tiff-tiles", "tiff-palette"}
COLOURED |= {name for name in PICTURES if name.startswith("jpeg")}


def volume(name: str, write: Callable[[Path], object], is_label: bool = True) -> Target:
    """A file as volume and as slices, and where it may be as its own label map."""

    def read(folder: Path) -> None:
        read_folder(folder, rank=3)
        read_folder(folder, plane="coronal", labels=folder if is_label else None)

    return Target(lambda folder: write(folder / name), read)


def layout(name: str, make: Callable[[Path], dict]) -> Target:
    """A data set in a layout of its own, made and opened as the contracts of sources do it."""
    options = {}

    def read(folder: Path) -> None:
        read_items(open_dataset(name, **options))

    return Target(lambda folder: options.update(make(folder)), read, share=2, is_layout=True)


#: Files of TFDS are its library's own; those of DICOM are not yet read without its warnings.
LAYOUTS = {
    n: made
    for n, made in test_sources.OPTIONS.items()
    if callable(made) and n not in ("tfds", "dicom")
}
IMAGES: dict[str, Target] = {
    **{name: picture(*given, name not in COLOURED) for name, given in PICTURES.items()},
    "nifti": volume("a.nii", nifti(VOLUME)),
    "nifti-gz": volume("a.nii.gz", nifti(VOLUME)),
    "nifti-float": volume("a.nii.gz", nifti(VOLUME / 7), False),
    "nifti-2": volume("a.nii", nifti(VOLUME, nibabel.Nifti2Image)),
    "nifti-channels": volume("a.nii", nifti(np.stack([VOLUME] * 2, axis=-1)), False),
    **{
        name: layout(name, made)
        for name, made in test_sources.OPTIONS.items()
        if callable(made) and name != "tfds"
    },
}
