"""Figures of a store as PNG files."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.core.types import Status
from jaxseg_xai.report import figures, panels
from jaxseg_xai.store import Store

#: Characters of a file's name before it is cut: most file systems take 255 with suffix and hash.
_LONGEST = 200


def file_name(name: str) -> str:
    """A name as one of a file, without its suffix, on every system.

    Characters are quoted, not replaced, and a name too long for a file system ends with a hash: two
    names never share a file.

    >>> file_name("liver/left")
    'liver%2Fleft'
    """
    quoted = quote(name, safe=" #()+,=@")
    if len(quoted) <= _LONGEST:
        return quoted
    return f"{quoted[:_LONGEST]}-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"


def save_figures(store: Store, folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Write one PNG per explanation of an image that is not empty: IMAGE-CLASS-LABEL.png.

    Args:
      store: an open store.
      folder: where to write; made if it is missing.

    Yields:
      The path of each file, once written.

    Raises:
      MissingExtraError: without the extra `report`.
      JaxsegError: the folder cannot be written.
    """
    for row in store.rows(done_only=True):
        if row.status is Status.EMPTY_IMAGE:
            continue
        name = f"{row.image_id}-{class_name(row.class_index, store.class_names)}-{row.label}"
        path = Path(folder) / f"{file_name(name)}.png"
        png = panels.to_png(figures.draw_row(store, row))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        except OSError as error:
            raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error
        yield path
