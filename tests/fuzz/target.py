"""What a format is to the fuzzer."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Target(NamedTuple):
    """A format.

    Attributes:
      make: writes sound files into a folder.
      read: reads them all; JaxsegError where that cannot be done.
      share: how many files of it there are to one of another format.
      is_layout: whether it is a data set of many files, one of which the contracts break.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    share: float = 1
    is_layout: bool = False


class Refused(Exception):
    """Several items, or their labels, could not be used: all reasons."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(*reasons)
