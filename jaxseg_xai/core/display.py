"""From the input of a model to a picture; numpy only."""

import numpy as np


def to_display(image: np.ndarray) -> np.ndarray:
    """Model input to something to look at.

    Args:
      image: [H, W, C], uint8 or float; floats in [0, 1] are shown as they are, others are stretched
        from their minimum to their maximum. NaN and infinity become black.

    Returns:
      uint8 [H, W, 3] for C = 3, else [H, W, 1]: the first channel (the first contrast of a scan).
    """
    image = image if image.shape[2] == 3 else image[:, :, :1]
    if image.dtype == np.uint8:
        return image
    image = np.asarray(image, np.float32)
    finite = np.isfinite(image)
    low, high = (image[finite].min(), image[finite].max()) if finite.any() else (0, 0)
    if low < 0 or high > 1:
        image = (image - low) / max(high - low, 1e-12)
    return np.round(255 * np.where(finite, image, 0)).astype(np.uint8)
