"""What every source checks of an image and its labels before it hands them out as a `Sample`.

Each function raises `DataError` with one line that names the item and the remedy, so that a sweep
can record a bad item as failed and go on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError, EmptyImageError, JaxsegError
from jaxseg_xai.core.types import IGNORED, Sample, Source
from jaxseg_xai.data.label_values import LabelValues

Window = tuple[float, float]

#: Labels that are stored as floats may be off a whole number by this.
_LABEL_ROUNDING = 1e-3
#: Above it floats are whole numbers, but not all of them.
_EXACT = 2.0**53
#: The splits of the built-in data sets.
SPLITS = ("train", "validation", "test")


def read_item(source: Source, index: int) -> Sample:
    """An item of a source that anybody may have written.

    Raises:
      DataError: it cannot be used, whatever the source raises; one line that names it.
    """
    name = source.ids[index]
    try:
        sample = source[index]
    except JaxsegError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{name}: cannot be read: {type(error).__name__}: {reason}; mend it, or leave it out"
        ) from error
    if not isinstance(sample, Sample):
        raise DataError(f"{name}: its source gives a {type(sample).__name__}; it must be a Sample")
    return sample


def check_window(window: Window | None) -> Window | None:
    """Return `window` = (lo, hi) as floats; raise `ConfigError` unless lo < hi, both finite."""
    if window is None:
        return None
    try:
        lo, hi = (float(edge) for edge in window)
    except (TypeError, ValueError):
        raise ConfigError(f"window={window!r}: give two numbers (lo, hi), e.g. (0, 255)") from None
    if not (np.isfinite(lo) and np.isfinite(hi) and lo < hi):
        raise ConfigError(f"window={window!r}: lo must be below hi, and both must be finite")
    return lo, hi


def apply_window(raw: np.ndarray, window: Window) -> np.ndarray:
    """Map [lo, hi] linearly to [0, 1] and clip; float32 [...] of any `raw` [...]."""
    lo, hi = window
    scaled = raw.astype(np.float64)
    scaled -= lo  # in place: volumes are large
    scaled /= hi - lo
    return np.clip(scaled, 0.0, 1.0, out=scaled).astype(np.float32)


def scale_integers(
    raw: np.ndarray, name: str, remedy: str = "give window=(lo, hi)", white: int | None = None
) -> np.ndarray:
    """Scale by the range of the dtype: u8 / 255, u16 / 65535, bool as it is; floats stay.

    Args:
      raw: [...] of any real dtype.
      name: what the error message calls the item.
      remedy: what to do about signed integers.
      white: the value that becomes 1, where it is not the dtype's largest (4095 of 12 bits).

    Returns:
      float32 [...]; in [0, 1] for unsigned integers and bool.

    Raises:
      DataError: signed integers have no natural range.
    """
    if raw.dtype.kind == "u":
        exact = np.float32 if raw.itemsize <= 2 else np.float64
        return np.divide(raw, exact(white or np.iinfo(raw.dtype).max), dtype=exact).astype(
            np.float32, copy=False
        )
    if raw.dtype.kind == "i":
        raise DataError(f"{name}: {raw.dtype} has no natural range; {remedy}")
    return to_float(raw, name)


def to_float(raw: np.ndarray, name: str) -> np.ndarray:
    """The numbers as they are, as float32; raise `DataError` for complex numbers, text, ..."""
    if raw.dtype.kind not in "buif":
        raise DataError(f"{name}: an image of dtype {raw.dtype}; store it as integers or floats")
    with np.errstate(over="ignore"):  # an infinity, which `check_image` finds
        return raw.astype(np.float32)


def check_image(
    image: np.ndarray, name: str, channels: int | None = None, rank: int = 2
) -> np.ndarray:
    """Check a scaled image and give it a channel axis.

    Args:
      image: float32 [*S] or [*S, C].
      name: what the error message calls the item.
      channels: the C that is needed; None takes any.
      rank: number of axes in S: 2 for images, 3 for volumes.

    Returns:
      float32 [*S, C], contiguous, finite, and not constant.

    Raises:
      DataError: other shape, no pixels, NaN or infinity, other C.
      EmptyImageError: the same value everywhere.
    """
    shape = image.shape
    if image.ndim == rank:
        image = image[..., None]
    if image.ndim != rank + 1 or image.size == 0:
        axes = {2: "H, W", 3: "D, H, W"}[rank]
        raise DataError(f"{name}: an image of shape {shape}; it must be [{axes}] or [{axes}, C]")
    if channels is not None and image.shape[-1] != channels:
        raise DataError(
            f"{name}: {image.shape[-1]} channels, but {channels} are needed; convert the image, or"
            " use a model with as many input channels"
        )
    if not np.isfinite(image).all():
        raise DataError(f"{name}: NaN or infinite pixels; replace them (numpy.nan_to_num)")
    axes = tuple(range(rank))
    if np.array_equal(image.min(axes), image.max(axes)):
        raise EmptyImageError(
            f"{name}: a constant image, so there is nothing to explain; leave it out, or check the"
            " window if you gave one"
        )
    return np.ascontiguousarray(image)


def labels_or_error(read: Callable[[], np.ndarray | None]) -> dict[str, Any]:
    """The fields of a `Sample` that say its labels, or why they cannot be used."""
    try:
        return {"labels": read()}
    except JaxsegError as error:
        return {"labels_error": error}


def check_labels(
    labels: np.ndarray,
    name: str,
    size: Sequence[int],
    class_names: Sequence[str] = (),
    values: LabelValues | None = None,
) -> np.ndarray:
    """Check a label map, or the planes of classes that may overlap.

    Args:
      labels: a label map [*S] or [*S, 1] of integers, bool, or floats that hold whole numbers; or
        planes bool [*S, K], one per class.
      name: what the error message calls the item.
      size: S of the image.
      class_names: the classes; an empty sequence leaves the upper end of the range unchecked.
      values: what the numbers of a label map mean; None: classes.

    Returns:
      int32 [*S], contiguous, in [0, len(class_names)) if there are class names, `IGNORED` where the
      class is not known; or bool [*S, K].

    Raises:
      DataError: other shape, another size than the image, fractions, values out of range.
    """
    size, rank = tuple(size), len(size)
    has_planes = labels.ndim == rank + 1
    if has_planes and labels.dtype == bool and (labels.shape[-1] > 1 or len(class_names) == 1):
        return _check_planes(labels, name, size, class_names)
    if has_planes and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.ndim != rank or labels.dtype.kind not in "buif":
        raise DataError(
            f"{name}: a label map of shape {labels.shape} and dtype {labels.dtype}; store class"
            " indices, one number a pixel, or for overlapping classes one plane of bool a class"
        )
    _check_size(labels.shape, name, size)
    if labels.dtype.kind == "f":
        whole = np.round(labels)
        # A scale factor in a NIfTI header leaves 2.9999998 of a 3.
        if not (np.abs(labels - whole) <= _LABEL_ROUNDING).all():
            raise DataError(f"{name}: the label map holds fractions or NaN; store class indices")
        labels = np.clip(whole.astype(np.float64), -_EXACT, _EXACT)  # else integers overflow
    labels, known = (values or LabelValues()).classes(labels)
    low, high = int(labels.min(where=known, initial=0)), int(labels.max(where=known, initial=0))
    limit = len(class_names) or np.iinfo(np.int32).max
    if low < 0 or high >= limit:
        bad, last = (low if low < 0 else high), limit - 1 if class_names else "the last class"
        raise DataError(
            f"{name}: label {bad} is out of range (0 to {last}); name every class in"
            " class_names, or map the value to one of them (labels.map, labels.ignore)"
        )
    return np.where(known, labels, IGNORED).astype(np.int32)


def _check_planes(
    planes: np.ndarray, name: str, size: tuple[int, ...], class_names: Sequence[str]
) -> np.ndarray:
    _check_size(planes.shape[:-1], name, size)
    if class_names and planes.shape[-1] != len(class_names):
        raise DataError(
            f"{name}: {planes.shape[-1]} planes of labels for {len(class_names)} classes"
            f" ({', '.join(class_names)}); give one plane a class"
        )
    return np.ascontiguousarray(planes)


def _check_size(found: tuple[int, ...], name: str, size: tuple[int, ...]) -> None:
    if found != size:
        raise DataError(
            f"{name}: the label map is {'x'.join(map(str, found))}, its image"
            f" {'x'.join(map(str, size))}; resize one of them (labels without interpolation)"
        )


def check_index(index: int, length: int) -> int:
    """Return `index` if 0 <= index < length, else raise `IndexError` (which ends iteration)."""
    if not 0 <= index < length:
        raise IndexError(f"item {index} of a data set with {length} items")
    return int(index)


def check_split(split: str, splits: Sequence[str] = SPLITS) -> str:
    """Return `split` if it is one of `splits`, else raise `ConfigError`."""
    if split not in splits:
        raise ConfigError(f"split={split!r}: choose one of {', '.join(splits)}")
    return split
