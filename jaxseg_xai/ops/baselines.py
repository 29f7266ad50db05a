"""What a pixel holds when it is taken away: the one place that knows, for all that hides pixels."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxseg_xai.core.types import Array
from jaxseg_xai.ops.padding import continued, own_pixels

#: "zero" of the prepared (normalised) image, the image's "mean" colour, the same image under a
#: "blur", or what "others" hold there: other images.
Baseline = Literal["zero", "mean", "blur", "others"]
#: Those for which no other image is needed.
OwnBaseline = Literal["zero", "mean", "blur"]
#: Standard deviation of the blur as a share of the image's shortest side.
_BLUR = 1 / 32


def baseline_images(
    kind: str, image: jax.Array, others: Array | None = None, size: Array | None = None
) -> jax.Array:
    """Images of which the hidden pixels are taken, float32 [N, *S, C].

    Padding is in all of them what it is in the image.

    Args:
      kind: a `Baseline`.
      image: float32 [*S, C].
      others: float32 [N, *S, C], asked for by "others"; else N is 1.
      size: int32 [rank], of the image without its padding; None where it has none.
    """
    own = True if size is None else own_pixels(size, image.shape[:-1])[..., None]
    match kind:
        case "others":
            assert others is not None  # the runner saw to it
            found = others
        case "mean":
            found = mean_colour(image, size)[None]
        case "blur":
            found = blurred(image, _BLUR * min(image.shape[:-1]), size)[None]
        case _:
            found = jnp.zeros_like(image)[None]
    return jnp.where(own, found, image)


def mean_colour(image: jax.Array, size: Array | None = None) -> jax.Array:
    """Mean of the image's own pixels [*S, C], float32 [1, .., C]."""
    own = None
    if size is not None:
        own = own_pixels(size, image.shape[:-1])[..., None]
        image = continued(image, size)
    return jnp.mean(image, axis=tuple(range(image.ndim - 1)), where=own, keepdims=True)


def blurred(image: jax.Array, deviation: float, size: Array | None = None) -> jax.Array:
    """Gaussian blur of [*S, C] by a standard deviation in pixels; the last own pixels go on."""
    if size is not None:
        image = continued(image, size)
    reach = int(3 * deviation + 0.5)
    steps = jnp.arange(-reach, reach + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * (steps / deviation) ** 2)
    weights /= weights.sum()
    along: Callable = lambda row: jnp.convolve(row, weights, mode="valid")  # noqa: E731
    for axis in range(image.ndim - 1):
        pads = [(reach, reach) if d == axis else (0, 0) for d in range(image.ndim)]
        image = jnp.apply_along_axis(along, axis, jnp.pad(image, pads, mode="edge"))
    return image
