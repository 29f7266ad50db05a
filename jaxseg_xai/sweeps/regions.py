"""Which output pixels an explanation is about, in images and volumes."""

import dataclasses
import re
import zlib
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from jaxseg_xai.core.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
    """How the region is found in an image.

    Attributes:
      kind: "image", everything; "roi", what the sweep's `roi` says, of its reference; "box", a cube
        around the innermost pixel of the largest connected component of the class; "component", a
        connected component of the class; "point", the component that holds a point; "mask", the
        given pixels.
      side: of the box in pixels; in an image that is smaller the box is as large as the image.
      corner: first pixel of the box along each axis; None puts it where `kind` says.
      seen: whether side and corner count pixels of the image as the model sees it, not as it is.
      number: which component, the largest being 1.
      point: position along each axis.
      mask: bool [*S] on the grid of the sample.
    """

    kind: Literal["image", "roi", "box", "component", "point", "mask"] = "image"
    side: int = 32
    corner: tuple[int, ...] | None = None
    seen: bool = False
    number: int = 1
    point: tuple[int, ...] | None = None
    mask: Any = None

    @property
    def name(self) -> str:
        """What the store and the figures call it: "box", "component 2", "point 3 4"."""
        if self.kind == "component" and self.number > 1:
            return f"component {self.number}"
        if self.kind == "point":
            return f"point {' '.join(map(str, self.point or ()))}"
        return self.kind

    def identity(self) -> dict[str, Any]:
        """What tells it from another region, as JSON values; a mask by its checksum."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found.pop("seen")  # of a list of regions, which the sweep names
        if self.mask is not None:
            mask = np.asarray(self.mask, bool)
            found["mask"] = [*mask.shape, zlib.crc32(mask.tobytes())]
        return found


def parse_region(value: Any, side: int = 32) -> Region:
    """A region from what a person writes.

    Args:
      value: "image", "roi", "box" (of `side`), "box 48", "component", "component 2", a point such
        as (30, 41) or "point 30 41", a mask bool [*S] (arrays or lists), or a `Region`.
      side: of a box where none is said.

    Raises:
      ConfigError: something else.

    >>> parse_region("component 2").name
    'component 2'
    """
    if isinstance(value, Region):
        return value
    if isinstance(value, str):
        word, *rest = value.split()
        numbers = tuple(int(n) for n in rest if re.fullmatch(r"\d+", n))
        if len(numbers) == len(rest):
            match word, numbers:
                case ("image" | "roi") as kind, ():
                    return Region(kind=kind)
                case "box", (*size,) if len(size) < 2:
                    return Region(kind="box", side=(size or [side])[0])
                case "component", (*number,) if len(number) < 2:
                    return Region(kind="component", number=(number or [1])[0])
                case "point", (_, _, *_):
                    return Region(kind="point", point=numbers)
    else:
        array = _as_array(value)
        if array.dtype == bool:
            return Region(kind="mask", mask=array)
        if array.dtype.kind in "iu" and array.shape in ((2,), (3,)):
            return Region(kind="point", point=tuple(array.tolist()))
        if array.size > 3:
            value = f"an array {array.shape} of {array.dtype}"
    raise ConfigError(
        f"region is {value!r}; use image, roi, box, box SIDE, component, component N, a point (one "
        "number per axis), or a mask of booleans"
    )


def _as_array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError):  # lists of several lengths, say
        return np.array(None)


def find_region(plane: np.ndarray, region: Region) -> np.ndarray:
    """The region, bool [*S], for a class's pixels [*S] (not empty).

    Raises:
      ConfigError: the box, point, component or mask does not fit the image.
    """
    shape = plane.shape
    size = "x".join(map(str, shape))
    match region.kind:
        case "image":
            return np.ones(shape, bool)
        case "mask":
            mask = np.asarray(region.mask, bool)
            if mask.shape != shape:
                raise ConfigError(
                    f"region: a mask {mask.shape} for an image {size}; give one value a pixel"
                )
            return mask
        case "component":
            parts, sizes = _components(plane)
            if not 1 <= region.number <= len(sizes):
                raise ConfigError(
                    f"region: no component {region.number}; the class has {len(sizes)} here"
                )
            order = np.argsort(-sizes, kind="stable")
            return parts == 1 + order[region.number - 1]
        case "point":
            point = region.point or ()
            inside = len(point) == len(shape)
            inside = inside and all(0 <= p < n for p, n in zip(point, shape, strict=True))
            if not inside:
                raise ConfigError(f"region: point {point} does not lie in the {size} image")
            if not plane[point]:
                raise ConfigError(
                    f"region: the class has no pixel at point {point}; choose a point inside it"
                )
            parts, _ = _components(plane)
            return parts == parts[point]
        case _:
            return _box(plane, region)


def _components(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected components numbered from 1, and their sizes in pixels."""
    parts = np.asarray(ndimage.label(plane)[0])  # pyright: ignore[reportIndexIssue]
    return parts, np.bincount(parts.ravel())[1:]


def _innermost(plane: np.ndarray) -> tuple[int, ...]:
    """The pixel of the largest component that is farthest from what is outside of it."""
    parts, sizes = _components(plane)
    number = 1 + int(np.argmax(sizes))
    place = ndimage.find_objects(parts, number)[-1]
    # Padded, so that the image border counts as outside of the object.
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(parts[place] == number, 1)))
    depth = depth[(slice(1, -1),) * plane.ndim]
    inside = np.unravel_index(np.argmax(depth), depth.shape)
    return tuple(int(n) + s.start for n, s in zip(inside, place, strict=True))


def _box(plane: np.ndarray, region: Region) -> np.ndarray:
    shape, corner = plane.shape, region.corner
    sides = (region.side,) * len(shape)
    if corner is None:
        sides = tuple(min(region.side, n) for n in shape)
        centre = _innermost(plane)
        corner = tuple(
            int(np.clip(c - side // 2, 0, n - side))
            for c, side, n in zip(centre, sides, shape, strict=True)
        )
    fits = len(corner) == len(shape) and region.side >= 1
    fits = fits and all(
        c >= 0 and c + side <= n for c, side, n in zip(corner, sides, shape, strict=True)
    )
    if not fits:
        size = "x".join(map(str, shape))
        raise ConfigError(
            f"region of interest: a box of side {region.side} at {tuple(corner)} does not lie in "
            f"the {size} image; change its side or corner (roi.side, roi.corner)"
        )
    found = np.zeros(shape, bool)
    found[tuple(slice(c, c + side) for c, side in zip(corner, sides, strict=True))] = True
    return found
