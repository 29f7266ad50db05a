"""Resizing of one axis: matrices and kernels."""

import jax
import jax.numpy as jnp
import numpy as np


def along_axis(x: jax.Array, matrix: np.ndarray, axis: int) -> jax.Array:
    """A constant matrix [wanted, size] applied to an axis of any array."""
    # To the end and back: a matrix product of the one axis, whatever the rank.
    return jnp.moveaxis(jnp.matmul(jnp.moveaxis(x, axis, -1), matrix.astype(x.dtype).T), -1, axis)


def linear_matrix(size: int, wanted: int, align_corners: bool) -> np.ndarray:
    """Interpolation matrix [wanted, size]."""
    if align_corners:
        position = np.linspace(0.0, size - 1.0, wanted)
    else:
        position = (np.arange(wanted) + 0.5) * size / wanted - 0.5
    position = np.clip(position, 0.0, size - 1.0)
    return np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(size)))


def cubic_weight(distance: np.ndarray, a: float) -> np.ndarray:
    """Weight of a pixel at a distance, in pixels, by Keys' kernel (1981, equation 4).

    PyTorch resizes with a = -0.75, PIL with -0.5.
    """
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def repeat_pixels(x: jax.Array, axis: int, times: int) -> jax.Array:
    """Every pixel of an axis several times, without a gather."""
    shape = x.shape
    x = jnp.expand_dims(x, axis + 1)
    x = jnp.broadcast_to(x, (*shape[: axis + 1], times, *shape[axis + 1 :]))
    return x.reshape(*shape[:axis], times * shape[axis], *shape[axis + 1 :])
