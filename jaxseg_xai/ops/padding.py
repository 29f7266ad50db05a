"""Images [*S, C] that end with padding: it is what lies past their own size along each axis."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import Array


def own_pixels(size: Array, shape: Sequence[int]) -> jax.Array:
    """Which pixels are the image's own, bool [*S].

    Args:
      size: int32 [rank], of the image without padding.
      shape: S.

    >>> own_pixels(jnp.array([1, 2]), (2, 3)).tolist()
    [[True, True, False], [False, False, False]]
    """
    inside = jnp.ones(tuple(shape), bool)
    for axis, length in enumerate(shape):
        along = jnp.arange(length) < size[axis]
        inside &= along.reshape(-1, *[1] * (len(shape) - axis - 1))
    return inside


def continued(image: jax.Array, size: Array) -> jax.Array:
    """The image [*S, C] with its last own pixels in the place of the padding."""
    for axis in range(image.ndim - 1):
        places = jnp.minimum(jnp.arange(image.shape[axis]), size[axis] - 1)
        image = jnp.take(image, places, axis=axis)
    return image
