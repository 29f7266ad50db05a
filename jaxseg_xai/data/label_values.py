"""What the values and colours of label maps mean, where they are no class numbers."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.fields import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelValues:
    """How the values of label maps become classes.

    Attributes:
      map: value -> class, {255: 1} for masks of black and white; values that are not named stay.
      ignore: values of pixels whose class nobody knows (255 of many data sets); they belong to no
        region of ground truth, and count in no Dice against it.
      colours: "#rrggbb" -> class, of label maps that show colours; every colour must be named.
      threshold: of grey masks of one class, JPEG files among them: values from this one on (in the
        file's own numbers, 0 to 255 of a JPEG) are 1, those below it 0.

    >>> LabelValues(map={255: 1}, ignore=(7,)).classes(np.array([0, 255, 7]))
    (array([0, 1, 7]), array([ True,  True, False]))
    """

    map: Mapping[int, int] = dataclasses.field(default_factory=dict)
    ignore: tuple[int, ...] = ()
    colours: Mapping[str, int] = dataclasses.field(default_factory=dict)
    threshold: float | None = setting(None, above=0)

    def __post_init__(self) -> None:
        if self.colours and self.threshold is not None:
            raise ConfigError(
                "labels: colours and threshold both say how pictures are read; leave one out"
            )
        for colour in self.colours:
            if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
                raise ConfigError(
                    f"labels.colours names {colour!r}; write red, green and blue as #rrggbb"
                )
        for value, class_index in (*self.map.items(), *self.colours.items()):
            if class_index < 0:
                raise ConfigError(
                    f"labels: {value} becomes {class_index}; classes are counted from 0 (for "
                    "pixels of no known class there is labels.ignore)"
                )

    @property
    def of_pictures(self) -> bool:
        """Whether label maps are read as pictures: what they show, not the numbers stored."""
        return bool(self.colours) or self.threshold is not None

    def numbers(self, picture: np.ndarray, name: str) -> np.ndarray:
        """The numbers that a picture stands for, int32 [H, W].

        Args:
          picture: as a viewer shows it, [H, W] or [H, W, C], of uint8, uint16, floats or bool.
          name: what the error message calls it.

        Raises:
          DataError: it has a colour that is not named.
        """
        if self.threshold is not None:
            grey = picture.mean(axis=-1) if picture.ndim == 3 else picture
            grey = 255 * grey.astype(np.uint8) if grey.dtype == bool else grey
            return (grey >= self.threshold).astype(np.int32)
        if picture.ndim == 2:
            picture = picture[..., None]
        if picture.dtype == bool:
            picture = 255 * picture.astype(np.uint8)
        if picture.dtype != np.uint8 or picture.shape[-1] not in (1, 3):
            raise DataError(
                f"{name}: {picture.dtype} in {picture.shape[-1]} channels is no picture with the "
                "colours of labels.colours; save it as an RGB PNG"
            )
        shown = np.broadcast_to(picture, (*picture.shape[:-1], 3)).astype(np.int32)
        packed = shown @ np.array([1 << 16, 1 << 8, 1])
        table = {int(colour[1:], 16): number for colour, number in self.colours.items()}
        found, places = np.unique(packed, return_inverse=True)
        unknown = [f"#{colour:06x}" for colour in found if colour not in table]
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise DataError(
                f"{name}: colour {', '.join(unknown[:3])}{more} is not named in labels.colours; "
                "name it (JPEG changes colours: use the PNG)"
            )
        numbers = np.array([table[int(colour)] for colour in found], np.int32)
        return numbers[places].reshape(packed.shape)

    def classes(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classes of whole numbers [*S], and where they are known, bool [*S]."""
        known = ~np.isin(values, self.ignore)
        found = values.astype(np.int64)
        for value, class_index in self.map.items():
            found[values == value] = class_index
        return found, known
