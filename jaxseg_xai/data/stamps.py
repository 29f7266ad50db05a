"""Whether an image is still the one that was read: size and time of its files, and its values."""

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxseg_xai.core.types import Sample, Source


class Stamps:
    """Looks at size and time of the files of a source's items.

    Neighbouring slices share their files: those that were looked at last are not looked at again.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last: tuple[Sequence[Path], str] = ((), "")

    def of(self, index: int) -> str:
        """Differs when a file of the item was rewritten; "" where there are no files."""
        paths = files_of(self._source, index)
        if paths != self._last[0]:
            told = "".join(map(_of_file, paths)).encode()
            self._last = paths, hashlib.blake2b(told, digest_size=8).hexdigest()
        return self._last[1] if paths else ""


def files_of(source: Source, index: int) -> Sequence[Path]:
    """The files that an item is read from, as the source's method `files` says, if it has one."""
    files = getattr(source, "files", None)
    return files(index) if files is not None else ()


def content_of(sample: Sample) -> str:
    """Checksums of the values of an image, and, after a blank, of its labels where it has any.

    >>> content_of(Sample(id="a", image=np.zeros((2, 2, 1), np.float32)))
    'ecbb4b55'
    """
    arrays = [sample.image] if sample.labels is None else [sample.image, sample.labels]
    return " ".join(f"{zlib.crc32(np.ascontiguousarray(array).data):08x}" for array in arrays)


def is_same(content: str, other: str) -> bool:
    """Whether two times the same was read, as far as it was: labels are not always."""
    return all(a == b for a, b in zip(content.split(), other.split(), strict=False))


def _of_file(path: Path) -> str:
    try:
        told = path.stat()
    except OSError:
        return f"{path.name} is not there "
    return f"{path.name} {told.st_size} {told.st_mtime_ns} "
