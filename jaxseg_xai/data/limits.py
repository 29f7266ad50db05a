"""How much a file may hold: what its header promises is compared before memory is taken."""

import math
from collections.abc import Sequence
from pathlib import Path

from jaxseg_xai.core.errors import DataError

#: Numbers (pixels or voxels times channels) of a file at most.
MOST_VALUES = 2**31
#: Of an archive, in bytes.
MOST_BYTES = 8 * MOST_VALUES
#: How many times gzip can make a file smaller.
GZIP_RATIO = 1100


def check_promise(path: Path, shape: Sequence[int], bits: int, ratio: int) -> None:
    """Refuse a header that promises more than its file can hold, or than fits into a computer.

    Args:
      path: the file.
      shape: that it promises.
      bits: of a number, in the file.
      ratio: how many times smaller than its numbers a file of this kind can be.

    Raises:
      DataError: it does.
    """
    values, stored = math.prod(shape), path.stat().st_size
    told = f"{path}: its header promises {' x '.join(map(str, shape))} numbers"
    if values * bits > 8 * ratio * stored:
        raise DataError(
            f"{told}, more than a file of {stored:,} bytes can hold: cut off or corrupt; copy or "
            "export it again"
        )
    if values > MOST_VALUES:
        raise DataError(f"{told}, more than {MOST_VALUES:,}; cut it into several files")
