"""What a model takes."""

import dataclasses
from typing import Literal, get_args

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.fields import use_tuples

Pad = Literal["refuse", "edge", "reflect", "constant"]
Grey = Literal["refuse", "repeat"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a model takes. It only declares; `jaxseg_xai.core.inputs.prepare` does it.

    Attributes:
      rank: 2 for images [H, W, C], 3 for volumes [D, H, W, C].
      channels: C.
      multiple_of: every side must be a multiple of this.
      fixed_size: the only size the model takes, one number per axis; other images are resized to it
        (linearly) and maps brought back. None: any size.
      value_range: what the values 0 and 1 of a sample become, before `mean` and `std`.
      mean: subtracted from every channel, after the range; () subtracts nothing.
      std: every channel is divided by it; () divides by nothing.
      pad: what to do with a size that is no multiple: "refuse" (an error), or pad at the end of
        each axis as `numpy.pad` does in that mode. Padding is never part of a region.
      grey: what to do with an image of one channel where more are needed: "refuse" or "repeat".
    """

    rank: Literal[2, 3] = 2
    channels: int = 3
    multiple_of: int = 1
    fixed_size: tuple[int, ...] | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: Pad = "refuse"
    grey: Grey = "refuse"

    def __post_init__(self) -> None:
        use_tuples(self)
        if self.rank not in (2, 3) or self.channels < 1 or self.multiple_of < 1:
            raise ModelError(
                f"input: rank {self.rank}, {self.channels} channels, sizes a multiple of "
                f"{self.multiple_of}; the rank must be 2 or 3, the others at least 1"
            )
        if self.fixed_size is not None and len(self.fixed_size) != self.rank:
            raise ModelError(
                f"input: fixed_size {self.fixed_size} for images of rank {self.rank}; give one "
                "number per axis"
            )
        if any(n < 1 or n % self.multiple_of for n in self.fixed_size or ()):
            raise ModelError(
                f"input: fixed_size {self.fixed_size} is not made of multiples of multiple_of = "
                f"{self.multiple_of}; correct one of the two"
            )
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, self.channels):
                raise ModelError(
                    f"input: {name} has {len(getattr(self, name))} values for {self.channels} "
                    "channels; give one per channel"
                )
        if any(value == 0 for value in self.std):
            raise ModelError("input: std holds 0, by which nothing can be divided")
        for name, choices in (("pad", Pad), ("grey", Grey)):
            if getattr(self, name) not in get_args(choices):
                raise ModelError(
                    f"input: {name} is {getattr(self, name)!r}; use {', '.join(get_args(choices))}"
                )

    def example_size(self) -> tuple[int, ...]:
        """The smallest size that the model takes, as far as is known."""
        return self.fixed_size or (self.multiple_of,) * self.rank
