"""Figures of a store as PNG files."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from jaxseg_xai.core.errors import JaxsegError
from jaxseg_xai.report import common, figures, panels
from jaxseg_xai.store.store import ExplanationStore


def save_figures(store: ExplanationStore, folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Write one PNG per explanation that is not pending: IMAGE-CLASS-EXPLAINER.png.

    Args:
      store: an open store.
      folder: where to write; made if it is missing.

    Yields:
      The path of each file, once written.

    Raises:
      JaxsegError: the folder cannot be written.
    """
    for stored in store:
        class_name = common.class_name(stored.plan.class_index, store.class_names)
        name = f"{stored.plan.image_id}-{class_name}-{stored.explainer}"
        # Quoted, not replaced: two images never share a file.
        path = Path(folder) / (quote(name, safe=" #()+,=@") + ".png")
        image = store.read_image(stored.plan.image_index)
        parameters = store.parameters(stored.explainer)
        png = panels.to_png(figures.draw(stored, image, store.class_names, parameters))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png)
        except OSError as error:
            raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error
        yield path
