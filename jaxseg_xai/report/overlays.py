"""From images and segmentations to RGB pictures; numpy only."""

import numpy as np

#: Okabe and Ito's palette, which colour-blind readers can tell apart; class 0 is left grey.
PALETTE = np.array(
    [
        [128, 128, 128],
        [230, 159, 0],
        [86, 180, 233],
        [0, 158, 115],
        [204, 121, 167],
        [0, 114, 178],
        [213, 94, 0],
        [240, 228, 66],
    ],
    np.uint8,
)
#: Outlines: of the region explained, of the class as it is predicted, of what is explained.
GREEN, WHITE, YELLOW = "#00c853", "#ffffff", "#f0e442"
#: Effects below zero, none, above zero.
RED, GREY, BLUE = "#b2182b", "#8a8a8a", "#2166ac"


def to_grey(image: np.ndarray) -> np.ndarray:
    """Luminance of an RGB picture uint8 [H, W, 3], as uint8 [H, W, 3]."""
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat(np.round(grey).astype(np.uint8)[:, :, None], 3, axis=2)


def class_colour(class_index: int, overlapping: bool = False) -> np.ndarray:
    """Colour of a class, uint8 [3]; colours repeat after seven foreground classes.

    Args:
      class_index: the class.
      overlapping: whether classes may overlap; there is no background among them, so that class 0
        has a colour too.
    """
    foreground = class_index if overlapping else class_index - 1
    return PALETTE[0] if foreground < 0 else PALETTE[1 + foreground % (len(PALETTE) - 1)]


def blend(image: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`(1 - weight) * image + weight * colour`.

    Args:
      image: uint8 [H, W, 3].
      colour: [3] or [H, W, 3], in [0, 255].
      weight: [H, W] in [0, 1]; bool counts as 0 and 1.

    Returns:
      uint8 [H, W, 3].
    """
    weight = np.asarray(weight, np.float32)[:, :, None]
    return np.round((1 - weight) * image + weight * colour).astype(np.uint8)


def colour_labels(
    image: np.ndarray, segmentation: np.ndarray, class_index: int, opacity: float = 0.55
) -> np.ndarray:
    """Paint the classes of a label map [H, W] on an image; the explained one more strongly."""
    for label in np.unique(segmentation[segmentation > 0]):
        strength = opacity if label == class_index else opacity / 2
        image = blend(image, class_colour(int(label)), strength * (segmentation == label))
    return image


def effect_limit(values: np.ndarray, percentile: float = 98) -> float:
    """End of a colour scale for effects: a few can outweigh the rest a hundredfold.

    Args:
      values: effects; zeros and NaN do not count.
      percentile: of their sizes.
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.percentile(sizes, percentile)) if sizes.size else 1.0
