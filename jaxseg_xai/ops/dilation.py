"""Binary dilation by a fixed structuring element."""

import jax
import jax.numpy as jnp
import numpy as np


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
      element: bool [n, n], n odd, symmetric about its centre, which belongs to it.

    Returns:
      bool [H, W].
    """
    # Shifts and ors, which XLA fuses; a convolution of one channel leaves its kernels empty.
    height, width = mask.shape
    radius = len(element) // 2
    padded = jnp.pad(mask, radius)
    found = mask
    for dy, dx in np.argwhere(element):
        found = found | padded[dy : dy + height, dx : dx + width]
    return found
