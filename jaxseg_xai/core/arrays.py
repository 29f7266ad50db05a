"""Archives of arrays (`.npz`)."""

import zipfile
from pathlib import Path

import numpy as np


def arrays_of(path: Path, most_bytes: int | None = None) -> dict[str, np.ndarray]:
    """All arrays of an archive.

    Objects of Python stay unread: a data file must not run code.

    Args:
      path: the file.
      most_bytes: of all arrays together; None: any.

    Raises:
      Exception: it is damaged, has more bytes, or holds something else than arrays; which one
        depends on where.
    """
    # The stream is opened here because NumPy leaves it open where the archive is corrupt.
    with path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):  # NumPy would take it for a pickle
            raise ValueError("it is no archive of arrays")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as file:
            # What an archive says of its size is what is read of it at most.
            size = sum(member.file_size for member in file.zip.infolist())
            if most_bytes is not None and size > most_bytes:
                raise ValueError(f"{size:,} bytes unpacked, more than {most_bytes:,}")
            arrays = {name: file[name] for name in file.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} is no array")
    return arrays
