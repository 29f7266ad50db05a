"""Whether an image is still the one that was read: size and time of its files, and its values."""

import functools
import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxseg_xai.core.types import Sample, Source


class Stamps:
    """Looks at the files of a source's items, at each once: slices share theirs."""

    def __init__(self, source: Source) -> None:
        """Take a source; one with a method `files` says which files an item is read from."""
        self._files = getattr(source, "files", None)
        self._of_file = functools.cache(_of_file)

    def of(self, index: int) -> str:
        """Differs when a file of the item was rewritten; "" where there are no files."""
        paths = self._files(index) if self._files is not None else ()
        return digest("".join(map(self._of_file, paths)).encode()) if paths else ""


def files_of(source: Source, index: int) -> Sequence[Path]:
    """The files of an item of a source that may have no method `files`."""
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


def digest(data: bytes) -> str:
    """A short name of some bytes."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _of_file(path: Path) -> str:
    try:
        told = path.stat()
    except OSError:
        return f"{path.name} is not there "
    return f"{path.name} {told.st_size} {told.st_mtime_ns} "
