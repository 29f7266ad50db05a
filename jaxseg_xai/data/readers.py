"""Readers of image files: the numbers of a file as they stand, before any scaling.

tifffile is optional and imported when the first TIFF file is read; NIfTI is in `nifti.py`.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxseg_xai.core.errors import DataError, JaxsegError, MissingExtraError

PILLOW = (".png", ".jpg", ".jpeg")
TIFF = (".tif", ".tiff")
NPZ = (".npz",)
NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*PILLOW, *TIFF, *NPZ, *NIFTI)

_UNSIGNED_16 = ("I;16", "I;16L", "I;16B")


def split_name(path: Path) -> tuple[str, str]:
    """(stem, lower-case suffix), with ".nii.gz" as one suffix."""
    lower = path.name.lower()
    suffix = ".nii.gz" if lower.endswith(".nii.gz") else path.suffix.lower()
    return path.name[: len(path.name) - len(suffix)], suffix


def read_image(path: Path) -> np.ndarray:
    """The image in a PNG, JPEG, TIFF or NPZ file, [H, W] or [H, W, C], in the file's own dtype.

    Pillow: bilevel images become bool, palette images the colours they stand for, CMYK and YCbCr
    RGB; an opaque alpha channel is dropped, a transparent one is an error. EXIF rotation is not
    applied. TIFF: one page, colours first or last. NPZ: the array `image`.

    Raises:
      DataError: the file cannot be read as one image.
    """
    return guarded(path, _image_reader(path))


def read_labels(path: Path) -> np.ndarray:
    """The label map in a PNG, TIFF or NPZ file, [H, W], in the file's own dtype.

    Palette images give their indices, not their colours. NPZ: the array `label`, or the only one.

    Raises:
      DataError: the file cannot be read as one label map.
    """
    return guarded(path, _labels_reader(path))


def read_npz_labels(path: Path) -> np.ndarray | None:
    """The array `label` of an NPZ file that holds an image, or None where there is none."""
    return guarded(path, lambda: _load_npz(path).get("label"))


def guarded(path: Path, reader: Callable[[], Any]) -> Any:
    """Run a reader; whatever a decoder raises on a bad file becomes one `DataError`."""
    try:
        return reader()
    except (JaxsegError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; was it moved since the folder was opened?"
        ) from None
    except Exception as error:
        # Decoders raise nearly anything on corrupt bytes (OSError, SyntaxError, struct.error, ...).
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path}: corrupt or not what its suffix says ({reason}); export it again"
        ) from error


def _unsupported(path: Path, what: str, suffixes: tuple[str, ...]) -> DataError:
    suffix = split_name(path)[1]
    return DataError(
        f"{path}: {what} of type {suffix or 'unknown'} cannot be read; convert it to one of"
        f" {', '.join(suffixes)}, or move it away"
    )


def _image_reader(path: Path) -> Callable[[], np.ndarray]:
    suffix = split_name(path)[1]
    if suffix in PILLOW:
        return lambda: _pillow_image(path)
    if suffix in TIFF:
        return lambda: _tiff(path)
    if suffix in NPZ:
        return lambda: _npz_image(path)
    raise _unsupported(path, "an image", SUFFIXES)


def _labels_reader(path: Path) -> Callable[[], np.ndarray]:
    suffix = split_name(path)[1]
    if suffix == ".png":
        return lambda: _pillow_labels(path)
    if suffix in TIFF:
        return lambda: _tiff(path)
    if suffix in NPZ:
        return lambda: _npz_labels(path)
    raise _unsupported(path, "a label map", (".png", *TIFF, *NPZ, *NIFTI))


def _open_pillow(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns about images above 89 megapixels; large images are what people have.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)


def _pillow_image(path: Path) -> np.ndarray:
    with _open_pillow(path) as image:
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        if image.mode in ("CMYK", "YCbCr"):
            image = image.convert("RGB")
        if image.mode in ("RGBA", "LA"):
            pixels = np.asarray(image)
            if pixels[..., -1].min() < 255:
                raise DataError(
                    f"{path}: transparent pixels; flatten the image onto a background colour"
                )
            return pixels[..., :-1]
        if image.mode not in ("1", "L", "RGB", *_UNSIGNED_16):
            raise DataError(f"{path}: colour mode {image.mode}; save it as gray or RGB")
        return _native(np.asarray(image))


def _pillow_labels(path: Path) -> np.ndarray:
    with _open_pillow(path) as image:
        if image.mode not in ("1", "L", "P", "I", *_UNSIGNED_16):
            raise DataError(
                f"{path}: a label map with colours (mode {image.mode}); store class indices, as"
                " gray values or with a palette"
            )
        return _native(np.asarray(image))


def _native(pixels: np.ndarray) -> np.ndarray:
    """The same numbers in the machine's byte order (16-bit files may differ)."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _tiff(path: Path) -> np.ndarray:
    try:
        import tifffile
    except ImportError:
        raise MissingExtraError("reading TIFF images", "tiff") from None
    with tifffile.TiffFile(path) as file:
        if not file.series:
            raise DataError(f"{path}: a TIFF file without an image; export it again")
        series = file.series[0]
        pixels, axes = _native(series.asarray()), series.axes
    if axes in ("YX", "YXS"):
        return pixels
    if axes in ("SYX", "CYX"):
        return np.moveaxis(pixels, 0, -1)
    raise DataError(
        f"{path}: a TIFF stack of shape {pixels.shape} (axes {axes}); save one image per file"
    )


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    # allow_pickle stays off: a data file must not run code.
    # The stream is opened here because NumPy leaves it open where the archive is corrupt.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _npz_image(path: Path) -> np.ndarray:
    arrays = _load_npz(path)
    if "image" not in arrays:
        raise DataError(f"{path}: no array 'image' among {sorted(arrays)}; rename or add it")
    return arrays["image"]


def _npz_labels(path: Path) -> np.ndarray:
    arrays = _load_npz(path)
    if "label" not in arrays and len(arrays) != 1:
        raise DataError(f"{path}: no array 'label' among {sorted(arrays)}; rename or add it")
    return arrays["label"] if "label" in arrays else next(iter(arrays.values()))
