"""Figures of a store as PNG files."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from jaxseg_xai.core.display import class_name
from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.report import figures, panels
from jaxseg_xai.store import Store


def save_figures(store: Store, folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Write one PNG per explanation that is not pending: IMAGE-CLASS-LABEL.png.

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
        name = f"{row.image_id}-{class_name(row.class_index, store.class_names)}-{row.label}"
        # Quoted, not replaced: two images never share a file.
        path = Path(folder) / (quote(name, safe=" #()+,=@") + ".png")
        png = panels.to_png(figures.draw_row(store, row))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        except OSError as error:
            raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error
        yield path
