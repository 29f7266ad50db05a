"""What people see instead of numbers: a picture of a model's input, the name of a class."""

from collections.abc import Sequence

import numpy as np


def class_name(class_index: int, class_names: Sequence[str]) -> str:
    """Name of a class, or "class 3" where it has none."""
    known = 0 <= class_index < len(class_names)
    return class_names[class_index] if known else f"class {class_index}"


def to_display(image: np.ndarray) -> np.ndarray:
    """Model input to something to look at.

    Args:
      image: [*S, C], uint8 or float; floats in [0, 1] are shown as they are, others are stretched
        from their minimum to their maximum. NaN and infinity become black.

    Returns:
      uint8 [*S, 3] for C = 3, else [*S, 1]: the first channel (the first contrast of a scan).
    """
    image = image if image.shape[-1] == 3 else image[..., :1]
    if image.dtype == np.uint8:
        return image
    image = np.asarray(image, np.float32)
    finite = np.isfinite(image)
    low, high = (image[finite].min(), image[finite].max()) if finite.any() else (0, 0)
    if low < 0 or high > 1:
        image = (image - low) / max(high - low, 1e-12)
    return np.round(255 * np.where(finite, image, 0)).astype(np.uint8)
