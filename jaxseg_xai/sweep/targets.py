"""From label maps to what is explained in them."""

import numpy as np
from scipy import ndimage

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.explainers import EXPLAINERS
from jaxseg_xai.sweep.config import RoiConfig


def make_target(
    explainer: str,
    class_index: int,
    prediction: np.ndarray,
    labels: np.ndarray | None,
    roi: RoiConfig,
) -> SegmentTarget | None:
    """The target of one explanation, or None where the class has no pixel to explain.

    MiSuRe explains the predicted class in the whole image; the ATE the class in a region of
    interest of its reference.

    Args:
      explainer: name of the explainer.
      class_index: the class.
      prediction: int [H, W], the model's label map.
      labels: int [H, W], ground truth, or None.
      roi: how to find the region.

    Raises:
      ConfigError: the box does not lie in the image.
    """
    whole = EXPLAINERS[explainer].whole_image
    if whole or labels is None or roi.reference == "prediction":
        labels = prediction
    reference = labels == class_index
    if not reference.any():
        return None
    region = np.ones(reference.shape, bool) if whole else find_region(reference, roi)
    if not (reference & region).any():
        return None
    return SegmentTarget(class_index=np.int32(class_index), region=region, reference=reference)


def find_region(mask: np.ndarray, roi: RoiConfig) -> np.ndarray:
    """The region of interest, bool [H, W], of a class's pixels [H, W] (not empty)."""
    shape = mask.shape
    if roi.corner is None:
        parts = np.asarray(ndimage.label(mask)[0])  # pyright: ignore[reportIndexIssue]
        largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
        if roi.kind == "component":
            return largest
        # Padded, so that the image border counts as outside of the object.
        depth = np.asarray(ndimage.distance_transform_edt(np.pad(largest, 1)))[1:-1, 1:-1]
        centre = np.unravel_index(np.argmax(depth), shape)
        corner = [
            int(np.clip(c - roi.side // 2, 0, max(0, size - roi.side)))
            for c, size in zip(centre, shape, strict=True)
        ]
    else:
        corner = list(roi.corner)
    top, left = corner
    if top < 0 or left < 0 or top + roi.side > shape[0] or left + roi.side > shape[1]:
        raise ConfigError(
            f"region of interest: a box of side {roi.side} at ({top}, {left}) does not lie in the "
            f"{shape[0]}x{shape[1]} image; change roi.side or roi.corner"
        )
    region = np.zeros(shape, bool)
    region[top : top + roi.side, left : left + roi.side] = True
    return region
