"""TIFF files, by tifffile: the colours that a viewer shows, and the numbers of a label map."""

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxseg_xai.core.errors import DataError, MissingExtraError
from jaxseg_xai.data.limits import check_promise
from jaxseg_xai.data.pillow_files import native, transparent

#: Value of the tag Orientation -> what brings the first row to the top and the first column left.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: np.swapaxes(x, 0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(np.swapaxes(x, 0, 1), 2),
    8: np.rot90,
}
_ORIENTATION = 274
#: Axes of one image -> whether the colours come first.
_TRANSPOSED = {"YX": False, "YXS": False, "SYX": True, "CYX": True}
#: Kinds of extra samples that are no further contrast.
_ALPHA = (1, 2)
#: Compressions whose decoder gives RGB for YCbCr.
_JPEG = (6, 7)
_UNCOMPRESSED = 1
#: Channels may be pages.
_MOST_PAGES = 1000
#: How many times compressions can make an image smaller; Zstandard's 32,768 is the most.
_RATIO = 40_000
#: The first bytes of TIFF and BigTIFF, in either byte order.
_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF, whatever it is called."""
    with path.open("rb") as stream:
        return stream.read(4) in _STARTS


def read_picture(path: Path) -> tuple[np.ndarray, int | None]:
    """What a viewer shows, [H, W] or [H, W, C], and the value that it shows as white.

    Orientation is applied, "white is zero" turned round, and an opaque alpha channel is dropped;
    palettes, CMYK and YCbCr become RGB. White is None where it is the largest value of the dtype.
    """
    pixels, page = _read(path)
    from tifffile import PHOTOMETRIC

    bits, kind = int(page.bitspersample), page.photometric
    unsigned = pixels.dtype.kind == "u"
    white = 2**bits - 1 if unsigned and bits < 8 * pixels.itemsize else None
    largest = white or (2 ** (8 * pixels.itemsize) - 1 if unsigned else 1)
    if page.extrasamples and page.extrasamples[-1] in _ALPHA:
        if pixels[..., -1].min() < largest:
            raise transparent(str(path))
        pixels = _without_alpha(pixels)
    if kind == PHOTOMETRIC.PALETTE:
        return np.moveaxis(np.asarray(page.colormap)[:, pixels], 0, -1), None
    if kind == PHOTOMETRIC.YCBCR and page.compression not in _JPEG and pixels.dtype == np.uint8:
        pixels = np.asarray(Image.fromarray(pixels, "YCbCr").convert("RGB"))
    if kind == PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "bu":
        pixels = pixels ^ pixels.dtype.type(largest)
    if kind in (PHOTOMETRIC.CIELAB, PHOTOMETRIC.ICCLAB, PHOTOMETRIC.ITULAB):
        raise DataError(f"{path}: colours of kind {kind.name}; save it as gray or RGB")
    if kind == PHOTOMETRIC.SEPARATED and pixels.shape[-1] == 4 and pixels.dtype == np.uint8:
        ink = 255 - pixels.astype(np.uint16)
        pixels = (ink[..., :3] * ink[..., 3:] // 255).astype(np.uint8)
    return pixels, white


def read_numbers(path: Path) -> np.ndarray:
    """The numbers that the file stores, [H, W]: of a palette image its indices.

    Alpha says nothing of them; of colours that are all gray it is the gray.
    """
    pixels, page = _read(path)
    if page.extrasamples and page.extrasamples[-1] in _ALPHA:
        pixels = _without_alpha(pixels)
    if pixels.shape[2:] == (3,) and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return pixels


def _without_alpha(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] if pixels.shape[-1] == 2 else pixels[..., :-1]


def _read(path: Path) -> tuple[np.ndarray, Any]:
    """The one image of a file, colours last, and tifffile's page."""
    try:
        import tifffile
    except ImportError:
        raise MissingExtraError("reading TIFF images", "tiff") from None
    with tifffile.TiffFile(path) as file:
        with contextlib.suppress(IndexError):
            # Looked up one after the other; a damaged file may have them without end.
            _ = file.pages[_MOST_PAGES]
            raise DataError(f"{path}: more than {_MOST_PAGES} pages; save one image per file")
        if not file.series:
            raise DataError(f"{path}: a TIFF file without an image; export it again")
        series = file.series[0]
        page: Any = series.keyframe
        _ = page.colormap  # read while the file is open
        if series.axes not in _TRANSPOSED:
            raise DataError(
                f"{path}: a TIFF stack of shape {series.shape} (axes {series.axes}); save one "
                "image per file"
            )
        _check_whole(path, series)
        try:
            pixels = native(series.asarray())
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            name = f"reading TIFF images compressed by {page.compression.name}"
            raise MissingExtraError(name, "tiff") from None
    if _TRANSPOSED[series.axes]:
        pixels = np.moveaxis(pixels, 0, -1)
    tag = page.tags.get(_ORIENTATION)
    return _TURNS.get(int(tag.value) if tag else 1, _TURNS[1])(pixels), page


def _check_whole(path: Path, series: Any) -> None:
    """Raise `DataError` unless all parts of an image are in its file.

    tifffile would show those that are missing as black.
    """
    page, end = series.keyframe, path.stat().st_size
    ratio = 1 if page.compression == _UNCOMPRESSED else _RATIO
    check_promise(path, series.shape, int(np.max(page.bitspersample)), ratio)
    for one in filter(None, series.pages):
        parts = list(zip(one.dataoffsets, one.databytecounts, strict=False))
        if len(parts) < math.prod(one.chunked) or any(sum(part) > end for part in parts):
            raise DataError(
                f"{path}: cut off or corrupt, strips or tiles of it are not in the file; copy or "
                "export it again"
            )
