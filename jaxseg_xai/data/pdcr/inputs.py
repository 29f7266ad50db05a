"""What PdCR's code reads: lists of regions, folders of patches."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxseg_xai.core.errors import DataError, JaxsegError
from jaxseg_xai.data.pdcr.text import bad_line, lines_of, write_text
from jaxseg_xai.data.readers import read_image

#: A row or column.
_PLACE = re.compile(r"\d{1,9}")


class RegionRow(NamedTuple):
    """A line of a list of regions.

    Attributes:
      image: name of the image, without suffix.
      top: first row of the region in pixels.
      left: its first column.
    """

    image: str
    top: int
    left: int


def read_regions(path: str | os.PathLike[str]) -> list[RegionRow]:
    """A list such as `HAM10000_block_coords_p32_b8.txt`: "IMAGE TOP LEFT" a line.

    Raises:
      DataError: the file cannot be read, has no line, or a line is something else.
    """
    rows = []
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            match line.split():
                case [image, top, left] if _PLACE.fullmatch(top) and _PLACE.fullmatch(left):
                    rows.append(RegionRow(image, int(top), int(left)))
                case _:
                    raise bad_line(path, number, line, "IMAGE TOP LEFT, such as ISIC_0033556 72 88")
    if not rows:
        raise DataError(f"{path}: no region; write a line IMAGE TOP LEFT for each image")
    return rows


def write_regions(path: str | os.PathLike[str], rows: Iterable[RegionRow]) -> None:
    """Write such a list.

    Raises:
      DataError: the name of an image is empty or has blanks, which would be read as other columns.
      JaxsegError: it cannot be written.
    """
    rows = list(rows)
    for row in rows:
        if len(row.image.split()) != 1:
            raise DataError(f"image {row.image!r}: a list of regions takes no blanks in names")
    write_text(path, "".join(f"{image} {top} {left}\n" for image, top, left in rows))


class Patches(NamedTuple):
    """Patches of a folder.

    Attributes:
      pixels: uint8 [N, b, b, C].
      names: of the files without suffix, IMAGE_ROW_COLUMN (of the block), sorted.
    """

    pixels: np.ndarray
    names: tuple[str, ...]

    @property
    def images(self) -> list[str]:
        """The image that each patch was cut from, N names."""
        return [re.sub(r"_\d+_\d+$", "", name) for name in self.names]


def read_patches(folder: str | os.PathLike[str]) -> Patches:
    """The PNG files of a folder such as `intervention_patches`, in the order of their names.

    (PdCR takes them in the order of the file system, and its archive must be unpacked.)

    Raises:
      DataError: no such files, or files of several sizes.
    """
    paths = sorted(Path(folder).glob("*.png"))
    if not paths:
        raise DataError(f"{folder}: no PNG file; name the (unpacked) folder of patches")
    found = [read_image(path).values for path in paths]
    found = [one[..., None] if one.ndim == 2 else one for one in found]
    for path, one in zip(paths, found, strict=True):
        if one.shape != found[0].shape or one.shape[0] != one.shape[1] or one.dtype != np.uint8:
            raise DataError(
                f"{path}: {one.shape} of {one.dtype}, and {paths[0].name} is {found[0].shape}; "
                "patches are squares of 8-bit pixels, all of one size"
            )
    return Patches(np.stack(found), tuple(path.stem for path in paths))


def write_patches(folder: str | os.PathLike[str], patches: Patches) -> None:
    """Write a PNG file per patch.

    Args:
      folder: made if it is missing.
      patches: of 1 or 3 channels.

    Raises:
      JaxsegError: they cannot be written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for pixels, name in zip(patches.pixels, patches.names, strict=True):
            picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            picture.save(Path(folder) / f"{name}.png")
    except OSError as error:
        raise JaxsegError(f"{folder}: cannot be written ({error.strerror})") from error
