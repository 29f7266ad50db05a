"""Readers that do what readers must not do, to see that it is found."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from jaxseg_xai.core.errors import DataError
from tests.fuzz.target import Target


def unnamed() -> None:
    raise DataError("something is wrong")


def hangs() -> None:
    time.sleep(3600)


READERS: dict[str, tuple[Callable[[], object], str]] = {
    "fine": (lambda: None, ""),
    "talks": (lambda: print("?"), "printed ?"),
    "writes": (lambda: os.write(2, b"libjpeg says"), "printed libjpeg says"),
    "raises": (lambda: 1 // 0, "ZeroDivisionError"),
    "unnamed": (unnamed, "names no file: something is wrong"),
    "large": (lambda: b"x" * 600_000_000, "took 572 MB"),
    "vast": (lambda: b"x" * 10**11, "MemoryError"),
    "dies": (os.abort, "the process died"),
    "hangs": (hangs, "silent for"),
}


def target(read: Callable[[], object]) -> Target:
    def make(folder: Path) -> None:
        (folder / "a.txt").write_text("text")

    return Target(make, lambda folder: read())


TARGETS = {name: target(read) for name, (read, _) in READERS.items()}
