"""Readers of image files: the numbers of a file, before any scaling; NIfTI is in `nifti.py`."""

import contextlib
import logging
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from jaxseg_xai.core.arrays import arrays_of
from jaxseg_xai.core.errors import DataError, JaxsegError, reason_of
from jaxseg_xai.data import pillow_files, tiff_files
from jaxseg_xai.data.limits import MOST_BYTES

T = TypeVar("T")

PILLOW = (".png", ".jpg", ".jpeg", ".gif")
TIFF = (".tif", ".tiff")
NPZ = (".npz",)
NIFTI = (".nii", ".nii.gz")
SUFFIXES = (*PILLOW, *TIFF, *NPZ, *NIFTI)
#: Loggers on which decoders say what they find odd in a file.
_TALKATIVE = ("PIL", "tifffile", "nibabel.global", "pydicom", "highdicom")


class Pixels(NamedTuple):
    """An image as a file holds it.

    Attributes:
      values: [H, W] or [H, W, C], in the file's own dtype.
      white: the value that a viewer shows as white, where that is not the dtype's largest.
    """

    values: np.ndarray
    white: int | None = None


def split_name(path: Path) -> tuple[str, str]:
    """(stem, lower-case suffix), with ".nii.gz" as one suffix.

    Accents are composed (NFC): macOS writes them apart, so that an image and its label map, which
    look alike, would have two names.
    """
    lower = path.name.lower()
    suffix = ".nii.gz" if lower.endswith(".nii.gz") else path.suffix.lower()
    return unicodedata.normalize("NFC", path.name[: len(path.name) - len(suffix)]), suffix


def read_image(path: Path) -> Pixels:
    """The image in a PNG, JPEG, GIF, TIFF or NPZ file.

    Pictures are what a viewer shows: turned as the camera was, palettes and CMYK as RGB, inverted
    grays put right, an opaque alpha channel dropped (a transparent one is an error). Bilevel images
    are bool. TIFF: one page, colours first or last. NPZ: the array `image`.

    Raises:
      DataError: the file cannot be read as one image.
    """
    return guarded(path, lambda: _image(path))


def read_labels(path: Path) -> np.ndarray:
    """The label map in a PNG, TIFF or NPZ file, [H, W], in the file's own dtype.

    It is turned as its image is, but its numbers are those that are stored: of a palette image the
    indices, not the colours. NPZ: the array `label`, or the only one.

    Raises:
      DataError: the file cannot be read as one label map.
    """
    return guarded(path, lambda: _labels(path))


def read_npz(path: Path, key: str) -> np.ndarray:
    """An array of an NPZ file, by its name.

    Raises:
      DataError: the file cannot be read, or has no such array.
    """
    return guarded(path, lambda: _npz_array(path, key))


def read_npz_labels(path: Path) -> np.ndarray | None:
    """The array `label` of an NPZ file that holds an image, or None where there is none."""
    return guarded(path, lambda: arrays_of(path, MOST_BYTES).get("label"))


def guarded(path: Path | str, reader: Callable[[], T]) -> T:
    """Run a reader of a file; whatever a decoder raises on a bad one becomes one `DataError`.

    Args:
      path: the file, or what is read of it, as the message names it.
      reader: reads.
    """
    try:
        with quiet_decoders():
            return reader()
    except JaxsegError:
        raise
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; check the path, or open the folder again if it was moved"
        ) from None
    except PermissionError:
        raise DataError(f"{path}: no permission to read it; ask for it (chmod u+r)") from None
    except MemoryError:
        raise DataError(f"{path}: does not fit into the memory; cut it, or scale it down") from None
    except Exception as error:
        # Decoders raise nearly anything on corrupt bytes (OSError, SyntaxError, struct.error, ...).
        raise DataError(
            f"{path}: corrupt or not what its suffix says ({reason_of(error)}); export it again"
        ) from error


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Within it decoders print nothing: what they cannot read is an error of ours, in one line."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _unsupported(path: Path, what: str, suffixes: tuple[str, ...]) -> DataError:
    suffix = split_name(path)[1]
    return DataError(
        f"{path}: {what} of type {suffix or 'unknown'} cannot be read; convert it to one of"
        f" {', '.join(suffixes)}, or move it away"
    )


def _image(path: Path) -> Pixels:
    suffix = split_name(path)[1]
    if suffix in TIFF or (suffix in PILLOW and tiff_files.is_tiff(path)):
        return Pixels(*tiff_files.read_picture(path))
    if suffix in PILLOW:
        return Pixels(pillow_files.read_picture(path))
    if suffix in NPZ:
        return Pixels(_npz_array(path, "image"))
    raise _unsupported(path, "an image", SUFFIXES)


def _labels(path: Path) -> np.ndarray:
    suffix = split_name(path)[1]
    if suffix in TIFF or (suffix == ".png" and tiff_files.is_tiff(path)):
        return tiff_files.read_numbers(path)
    if suffix == ".png":
        return pillow_files.read_numbers(path)
    if suffix in NPZ:
        return _npz_labels(path)
    raise _unsupported(path, "a label map", (".png", *TIFF, *NPZ, *NIFTI))


def _npz_array(path: Path, key: str) -> np.ndarray:
    arrays = arrays_of(path, MOST_BYTES)
    if key not in arrays:
        raise DataError(f"{path}: no array {key!r} among {sorted(arrays)}; rename or add it")
    return arrays[key]


def _npz_labels(path: Path) -> np.ndarray:
    arrays = arrays_of(path, MOST_BYTES)
    if "label" not in arrays and len(arrays) != 1:
        raise DataError(f"{path}: no array 'label' among {sorted(arrays)}; rename or add it")
    return arrays["label"] if "label" in arrays else next(iter(arrays.values()))
