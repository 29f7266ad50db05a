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
      element: bool [n] * rank, n odd, from `ellipse`: every line of it along the last axis is a run
        of pixels about its middle, or empty.

    Returns:
      bool [*S].
    """
    # Shifts and ors, which XLA fuses; a convolution of one channel leaves its kernels empty. Each
    # length of run is made once, from the next shorter one: shifting by every pixel of a large
    # element takes minutes to compile, and a hundred times as long to run.
    radius, width = len(element) // 2, mask.shape[-1]
    padded = jnp.pad(mask, radius)

    def shifted(offset: int) -> jax.Array:
        return padded[..., radius + offset : radius + offset + width]

    runs = [shifted(0)]
    for reach in range(1, radius + 1):
        runs.append(runs[-1] | shifted(-reach) | shifted(reach))
    lengths = element.sum(axis=-1)
    found = mask
    for line in np.argwhere(lengths):
        place = tuple(slice(n, n + size) for n, size in zip(line, mask.shape, strict=False))
        found = found | runs[lengths[tuple(line)] // 2][place]
    return found
