"""Text files, line by line."""

import os
from pathlib import Path

from jaxseg_xai.core.errors import DataError, JaxsegError


def lines_of(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file; DataError where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; check the path") from None


def bad_line(path: str | os.PathLike[str], number: int, line: str, expected: str) -> DataError:
    """The error of a line that is something else than expected."""
    shown = line if len(line) <= 60 else f"{line[:57]}..."
    return DataError(f"{path}, line {number}: {shown!r}; expected {expected}")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file; JaxsegError where it cannot be written."""
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise JaxsegError(f"{path}: cannot be written ({error.strerror})") from error
