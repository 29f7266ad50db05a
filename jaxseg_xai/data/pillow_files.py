"""PNG, JPEG and GIF files: the colours that a viewer shows, the numbers that a label map stores."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import GifImagePlugin, Image, ImageOps, UnidentifiedImageError

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.data.limits import check_promise

#: How many times PNG and JPEG can make an image smaller; 1032 for DEFLATE.
_RATIO = 1100
#: What a file of these suffixes may be. TIFF has a reader of its own, and for some that Pillow also
#: knows (EPS) it runs other programs.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM")
#: Modes whose numbers are an image as they stand.
_PLAIN = ("1", "L", "RGB", "I;16", "I;16L", "I;16B", "I", "F")


def read_picture(path: Path) -> np.ndarray:
    """The picture in a file, as `picture_of` returns it."""
    with _opened(path) as image:
        if image.mode == "RGBA" and _png_header(path) == (16, 4):
            image = image.convert("LA")  # Pillow reads 16-bit gray with alpha as colours
        return picture_of(image, str(path))


def picture_of(image: Image.Image, name: str) -> np.ndarray:
    """What a viewer shows: [H, W] of bool, uint8 or uint16, or [H, W, 3] of uint8.

    The camera's orientation (EXIF) is applied; palettes, CMYK and YCbCr become RGB; an opaque alpha
    channel is dropped, and transparent pixels are an error. Pillow's modes "I" and "F" are numbers
    as they are, [H, W] of int32 and float32.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA") or "transparency" in image.info:
        clear = image.mode == "PA" or "transparency" in image.info
        gray = image.mode in ("1", "L")
        image = image.convert(("LA" if gray else "RGBA") if clear else "RGB")
    if image.mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
    if image.mode in ("RGBA", "LA"):
        pixels = np.asarray(image)
        if pixels[..., -1].min() < 255:
            raise transparent(name)
        return pixels[..., :-1] if image.mode == "RGBA" else pixels[..., 0]
    if image.mode not in _PLAIN:
        raise DataError(f"{name}: colour mode {image.mode}; save it as gray or RGB")
    return native(np.asarray(image))


def read_numbers(path: Path) -> np.ndarray:
    """The numbers that a PNG file stores, as `numbers_of` returns them."""
    with _opened(path) as image:
        pixels = numbers_of(image, str(path))
    depth, kind = _png_header(path)
    if kind == 0 and depth in (2, 4):  # Pillow spreads them over 0 to 255
        pixels = pixels // np.uint8(255 // (2**depth - 1))
    return pixels


def numbers_of(image: Image.Image, name: str) -> np.ndarray:
    """The numbers of a label map, [H, W], turned as a camera was: of a palette its indices.

    Alpha says nothing of them; of colours that are all gray it is the gray.
    """
    image = ImageOps.exif_transpose(image)
    pixels = native(np.asarray(image))
    if image.mode in ("LA", "PA"):
        return pixels[..., 0]
    if image.mode in ("RGB", "RGBA") and (pixels[..., :3] == pixels[..., :1]).all():
        return pixels[..., 0]  # gray, saved as colours
    if image.mode not in ("P", *_PLAIN) or image.mode == "RGB":
        raise DataError(
            f"{name}: a label map with colours (mode {image.mode}); store class indices, as"
            " gray values or with a palette"
        )
    return pixels


def native(pixels: np.ndarray) -> np.ndarray:
    """The same numbers in the machine's byte order (16-bit files may differ)."""
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def transparent(name: str) -> DataError:
    """The error of an image that a viewer shows differently on every background."""
    return DataError(f"{name}: transparent pixels; flatten the image onto a background colour")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The open file; images above Pillow's own limit of 179 megapixels are what people have."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        image = Image.open(path, formats=_FORMATS)
    except UnidentifiedImageError:
        with path.open("rb") as stream:
            is_jpeg = stream.read(3) == b"\xff\xd8\xff"
        if is_jpeg:
            raise DataError(
                f"{path}: a JPEG that Pillow cannot read (12 bits, lossless, or damaged); export "
                "it as PNG or TIFF"
            ) from None
        raise
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with image:
        bands = len(image.getbands())
        bits = 1 if bands == 1 else 8  # gray pixels and those of a palette may be bits
        check_promise(path, (image.width, image.height, bands), bits, _RATIO)
        if isinstance(image, GifImagePlugin.GifImageFile) and image.n_frames > 1:
            raise DataError(f"{path}: a film of {image.n_frames} pictures; save one as a PNG")
        yield image


def _png_header(path: Path) -> tuple[int, int]:
    """(bits a sample, colour type) of a PNG file; (0, 0) of another."""
    with path.open("rb") as stream:
        head = stream.read(26)
    return (head[24], head[25]) if head[:4] == b"\x89PNG" and len(head) == 26 else (0, 0)
