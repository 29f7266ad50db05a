"""What a model takes."""

import dataclasses
import math
from typing import Literal, get_args

from jaxseg_xai.core.errors import ModelError
from jaxseg_xai.core.fields import use_tuples

Pad = Literal["refuse", "edge", "reflect", "constant"]
Grey = Literal["refuse", "repeat"]
ChannelOrder = Literal["rgb", "bgr"]
Crop = Literal["none", "nonzero"]
Normalize = Literal["none", "zscore", "zscore_nonzero", "minmax"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a model takes. It only declares; `jaxseg_xai.core.inputs.prepare` does it.

    Attributes:
      rank: 2 for images [H, W, C], 3 for volumes [D, H, W, C].
      channels: C.
      multiple_of: every side must be a multiple of this.
      fixed_size: the only size the model takes, one number per axis; other images are resized to it
        (linearly, with antialiasing) and maps brought back. None: any size.
      spacing: millimetres per pixel of each axis, to which images are resampled (by cubic splines,
        after the scaling) and from which maps are brought back; None leaves an axis. (): pixels are
        taken as they are, whatever their size.
      crop: "nonzero" leaves out what is around the pixels that are not 0 in some channel, where
        maps and segmentations are then 0; "none" takes the whole image.
      raw: whether volumes have the numbers of their files (Hounsfield units, say); sources then do
        not scale them to [0, 1].
      value_range: what the values 0 and 1 of a sample become, before all that follows.
      clip: (low, high) of every channel, to which its values are limited; None leaves a channel, ()
        all of them.
      normalize: by what numbers of its own an image is scaled, for every channel: "zscore" (less
        its mean, by its standard deviation), "zscore_nonzero" (of the pixels that are not 0 in
        some channel, in volumes with the holes among them; others stay), "minmax" (to [0, 1]) or
        "none"; () is "none" for all.
      mean: subtracted from every channel; () subtracts nothing.
      std: every channel is divided by it; () divides by nothing.
      pad: what to do with a size that is no multiple: "refuse" (an error), or pad at the end of
        each axis as `numpy.pad` does in that mode. Padding is never part of a region, and no method
        changes it.
      pad_to: sizes to which images are padded, each to that of the fewest pixels that holds it (in
        the mode "edge" where `pad` is "refuse"), so that images of many sizes need few programs;
        an image that none of them holds is padded to the next multiple. (): as `pad` says.
      grey: what to do with an image of one channel where more are needed: "refuse" or "repeat".
      channel_order: "bgr" where the model takes blue first, as models trained on OpenCV's images
        do; samples have red first. `mean` and `std` are in the model's order.
    """

    rank: Literal[2, 3] = 2
    channels: int = 3
    multiple_of: int = 1
    fixed_size: tuple[int, ...] | None = None
    spacing: tuple[float | None, ...] = ()
    crop: Crop = "none"
    raw: bool = False
    value_range: tuple[float, float] = (0.0, 1.0)
    clip: tuple[tuple[float, float] | None, ...] = ()
    normalize: tuple[Normalize, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: Pad = "refuse"
    pad_to: tuple[tuple[int, ...], ...] = ()
    grey: Grey = "refuse"
    channel_order: ChannelOrder = "rgb"

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
        self._check_spacing()
        self._check_pad_to()
        for name in ("mean", "std", "clip", "normalize"):
            if len(getattr(self, name)) not in (0, self.channels):
                raise ModelError(
                    f"input: {name} has {len(getattr(self, name))} values for {self.channels} "
                    "channels; give one per channel"
                )
        if any(value == 0 for value in self.std):
            raise ModelError("input: std holds 0, by which nothing can be divided")
        for name, choices in (
            ("pad", Pad),
            ("grey", Grey),
            ("crop", Crop),
            ("channel_order", ChannelOrder),
        ):
            _check_choice(name, getattr(self, name), get_args(choices))
        if self.channel_order != "rgb" and self.channels != 3:
            raise ModelError(
                f"input: channel_order {self.channel_order!r} for {self.channels} channels; only "
                "images of 3 have one, leave it out"
            )
        for value in self.normalize:
            _check_choice("normalize", value, get_args(Normalize))
        for limits in self.clip:
            if limits is not None and not limits[0] < limits[1]:
                raise ModelError(f"input: clip holds {limits}; the low one must be below the high")

    def _check_spacing(self) -> None:
        if self.spacing and (
            len(self.spacing) != self.rank or any(n is not None and n <= 0 for n in self.spacing)
        ):
            raise ModelError(
                f"input: spacing {self.spacing} for images of rank {self.rank}; give millimetres "
                "above 0, or null, for every axis"
            )
        if self.spacing and self.fixed_size:
            raise ModelError("input: spacing and fixed_size both say the size; leave one out")

    def _check_pad_to(self) -> None:
        if self.pad_to and self.fixed_size:
            raise ModelError(
                f"images cannot be padded to common sizes: they are resized to {self.fixed_size}; "
                "leave sizes out"
            )
        for size in self.pad_to:
            if len(size) != self.rank or any(n < 1 or n % self.multiple_of for n in size):
                raise ModelError(
                    f"input: pad_to holds {size}; give {self.rank} multiples of multiple_of = "
                    f"{self.multiple_of}"
                )

    @property
    def pads(self) -> bool:
        """Whether prepared images may end with padding."""
        return bool(self.pad_to) or (self.pad != "refuse" and self.multiple_of > 1)

    def padded(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """The size that an image of a size is padded to; its own where nothing is padded."""
        holding = [
            shape for shape in self.pad_to if all(a <= b for a, b in zip(size, shape, strict=True))
        ]
        if holding:
            return min(holding, key=math.prod)
        return tuple(n + -n % self.multiple_of for n in size)

    @property
    def resizes(self) -> bool:
        """Whether a pixel of a prepared image may be none of the sample's."""
        return self.fixed_size is not None or bool(self.spacing)

    def example_size(self) -> tuple[int, ...]:
        """The smallest size that the model takes, as far as is known."""
        return self.fixed_size or (self.multiple_of,) * self.rank


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ModelError(f"input: {name} is {value!r}; use {', '.join(choices)}")
