"""Binary dilation by a fixed structuring element."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def ellipse(size: int) -> np.ndarray:
    """Elliptical structuring element, bool [size, size] (size odd), as OpenCV draws it."""
    radius = size // 2
    rows = np.arange(-radius, radius + 1)
    reach = np.rint(radius * np.sqrt(np.maximum(0.0, 1.0 - (rows / max(radius, 1)) ** 2)))
    return np.abs(np.arange(-radius, radius + 1))[None, :] <= reach[:, None]


def dilate(mask: jax.Array, element: np.ndarray) -> jax.Array:
    """Dilate a mask once; outside the image counts as background.

    Args:
      mask: bool [H, W].
      element: bool [n, n], n odd, symmetric about its centre.

    Returns:
      bool [H, W].
    """
    kernel = jnp.asarray(element, jnp.float32)[..., None, None]
    reached = lax.conv_general_dilated(
        mask.astype(jnp.float32)[None, ..., None],
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return reached[0, ..., 0] > 0.5
