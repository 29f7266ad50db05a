"""Binary dilation by a fixed structuring element."""

import jax
import jax.numpy as jnp
import numpy as np


def ellipse(size: int, rank: int = 2) -> np.ndarray:
    """Elliptical structuring element, bool [size] * rank (size odd), as OpenCV draws it.

    In two dimensions a row at distance y from the centre reaches rint(r sqrt(1 - (y / r)^2))
    pixels to either side, with the radius r = size // 2. In three, y is the distance of a line of
    voxels from the centre.
    """
    radius = size // 2
    steps = np.arange(-radius, radius + 1)
    other = np.meshgrid(*[steps] * (rank - 1), indexing="ij")
    distance = np.square(np.array(other) / max(radius, 1)).sum(axis=0)
    reach = np.rint(radius * np.sqrt(np.maximum(0.0, 1.0 - distance)))
    return (np.abs(steps) <= reach[..., None]) & (distance <= 1)[..., None]


def dilate(mask: jax.Array, element: np.ndarray) -> jax.Array:
    """Dilate a mask once; outside the image counts as background.

    Args:
      mask: bool [*S].
      element: bool [n] * rank, n odd, symmetric about its centre, which belongs to it.

    Returns:
      bool [*S].
    """
    # Shifts and ors, which XLA fuses; a convolution of one channel leaves its kernels empty.
    padded = jnp.pad(mask, len(element) // 2)
    found = mask
    for start in np.argwhere(element):
        place = tuple(slice(n, n + size) for n, size in zip(start, mask.shape, strict=True))
        found = found | padded[place]
    return found
