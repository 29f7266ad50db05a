"""How exactly and how tightly maps are stored."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jaxseg_xai.core.fields import setting

#: Bits of a float32 that float16 has not, at its end.
_DROPPED = 13
#: What rounding changes at most, of a value.
HALF_ERROR = 2.0**-11


@dataclasses.dataclass(frozen=True, kw_only=True)
class Storage:
    """How maps are stored.

    Attributes:
      precision: "full" as they were computed; "half": float maps are rounded to the 11 binary
        digits of float16 (they keep the range of float32): every value is off by at most 0.049 %,
        and they take half of the space or less. Scores are kept as they are.
      level: of the compression (zstd), 0 (none) to 9; it changes the size and the time, and no
        value.
    """

    precision: Literal["full", "half"] = "full"
    level: int = setting(3, idle=True, at_least=0, at_most=9)

    @property
    def rounds(self) -> bool:
        """Whether maps are rounded."""
        return self.precision == "half"

    def attributes(self) -> dict[str, Any]:
        """What a store says of it."""
        error = HALF_ERROR if self.rounds else 0.0
        return {"storage": dataclasses.asdict(self) | {"largest_relative_error": error}}


def storage_of(attrs: Mapping[str, Any]) -> Storage:
    """As the attributes of a store say."""
    known = attrs.get("storage", {})
    return Storage(**{f.name: known[f.name] for f in dataclasses.fields(Storage) if known})


def rounded(values: np.ndarray) -> np.ndarray:
    """Float32 values with the 11 binary digits of float16, rounded to the nearest.

    >>> rounded(np.array([1 / 3], np.float32)).tolist()
    [0.333251953125]
    """
    bits = values.astype(np.float32, copy=False).view(np.uint32)
    last = (bits >> _DROPPED) & 1
    nearest = (bits + ((1 << (_DROPPED - 1)) - 1) + last) & ~np.uint32((1 << _DROPPED) - 1)
    found = nearest.view(np.float32)
    return np.where(np.isfinite(values) & np.isfinite(found), found, values)
