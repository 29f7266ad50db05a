"""Pages from templates."""

from pathlib import Path
from typing import TYPE_CHECKING

from jaxseg_xai.core.errors import MissingExtraError

if TYPE_CHECKING:
    from jinja2 import Environment


def templates(folder: Path, *, autoescape: bool = True) -> "Environment":
    """The Jinja templates of a folder.

    Args:
      folder: where they are.
      autoescape: on for HTML: names of images and classes are data.

    Raises:
      MissingExtraError: without the extra `report`.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("Writing a report", "report") from error
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
