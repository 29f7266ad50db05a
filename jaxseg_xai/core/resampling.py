"""Images, maps and label maps on a coarser or finer grid; pixel centres lie at halves.

Spacings are resampled as nnU-Net does (`resample_data_or_seg_to_shape` of nnunetv2 2.8.1): where
one axis is much coarser than the others, slice by slice, and along it the nearest slice.
"""

import numpy as np
from scipy import ndimage

#: An axis is resampled apart where pixels are so many times as long along it as along another.
_ANISOTROPIC = 3


def resize(
    values: np.ndarray, size: tuple[int, ...], *, order: int, apart: int | None = None
) -> np.ndarray:
    """Interpolate [*S, ...] to [*size, ...]; as it is where that is the same.

    Args:
      values: numbers of any dtype, which the result has too.
      size: of the result.
      order: of the spline: 0 takes the nearest neighbour, 1 interpolates linearly, 3 is cubic (and
        then clipped to the range of the values).
      apart: an axis along which the nearest slice is taken, after the others were resized.
    """
    size = tuple(size)
    if values.shape[: len(size)] == size:
        return values
    if apart is not None:
        slices = np.moveaxis(values, apart, 0)
        others = tuple(np.delete(size, apart))
        resized = np.stack([resize(one, others, order=order) for one in slices])
        places = (np.arange(size[apart]) + 0.5) * len(slices) / size[apart]
        return np.moveaxis(resized[places.astype(int)], 0, apart)
    exact = values.astype(np.float64 if order else np.int32)
    flat = exact.reshape(*values.shape[: len(size)], -1)
    zoom = tuple(new / old for new, old in zip(size, flat.shape, strict=False))
    found = np.stack([_zoom(flat[..., i], zoom, order) for i in range(flat.shape[-1])], axis=-1)
    return found.reshape(*size, *values.shape[len(size) :]).astype(values.dtype)


def resize_antialiased(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Interpolate floats [*S, C] linearly to [*size, C], as PIL's BILINEAR does.

    Where the result is coarser, a pixel is a weighted mean of all that it covers.
    """
    for axis, new in enumerate(size):
        old = values.shape[axis]
        if old == new:
            continue
        step = old / new
        centres = (np.arange(new) + 0.5) * step - 0.5
        distance = np.abs(np.arange(old) - centres[:, None])
        weights = np.maximum(0, 1 - distance / max(step, 1))
        weights /= weights.sum(axis=1, keepdims=True)
        values = np.moveaxis(np.tensordot(weights.astype(values.dtype), values, (1, axis)), 0, axis)
    return values


def _zoom(values: np.ndarray, zoom: tuple[float, ...], order: int) -> np.ndarray:
    found = np.asarray(ndimage.zoom(values, zoom, order=order, mode="nearest", grid_mode=True))
    return np.clip(found, values.min(), values.max()) if order > 1 else found


def size_at(
    size: tuple[int, ...], here: tuple[float, ...], there: tuple[float, ...]
) -> tuple[int, ...]:
    """Size of an image after resampling from one spacing (mm per pixel of each axis) to another."""
    return tuple(round(a / b * n) for a, b, n in zip(here, there, size, strict=True))


def axis_apart(here: tuple[float, ...], there: tuple[float, ...]) -> int | None:
    """The axis that is resampled apart, from one spacing of a volume to another; often None."""
    for spacing in (here, there):
        if len(spacing) > 2 and max(spacing) / min(spacing) > _ANISOTROPIC:
            coarsest = [i for i, length in enumerate(spacing) if length == max(spacing)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None
