"""From segmentations to what is explained in them."""

from typing import Literal, get_args

import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.inputs import Grid
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget, plane_of
from jaxseg_xai.sweeps.regions import Region, find_region

#: Which pixels of the class are explained: those predicted, those of the ground truth, those
#: predicted that are none, and those that are some and not predicted.
Reference = Literal["prediction", "truth", "false_positives", "false_negatives"]


def check_reference(reference: str) -> None:
    """Raise `ConfigError` for an unknown kind of reference."""
    if reference not in get_args(Reference):
        raise ConfigError(f"target is {reference!r}; use {', '.join(get_args(Reference))}")


def reference_plane(
    class_index: int,
    prediction: np.ndarray,
    labels: np.ndarray | None,
    reference: Reference,
    rank: int,
) -> np.ndarray:
    """The pixels of a class that are explained, bool [*S].

    Args:
      class_index: the class.
      prediction: of the model, a label map [*S] or planes [*S, K].
      labels: ground truth in the same form, or None.
      reference: which pixels.
      rank: number of axes S.

    Raises:
      ConfigError: ground truth is asked for and there is none.
    """
    predicted = plane_of(prediction, class_index, rank)
    if reference == "prediction":
        return predicted
    if labels is None:
        raise ConfigError(
            f"{reference.replace('_', ' ')} need ground truth, and this image has no labels; give "
            "labels, or explain the prediction"
        )
    truth = plane_of(labels, class_index, rank)
    match reference:
        case "truth":
            return truth
        case "false_positives":
            return predicted & ~truth
        case _:
            return truth & ~predicted


def make_target(
    class_index: int,
    prediction: np.ndarray,
    labels: np.ndarray | None,
    grid: Grid,
    *,
    region: Region,
    reference: Reference,
) -> SegmentTarget | None:
    """The target of one explanation, or None where there is nothing to explain.

    Args:
      class_index: the class.
      prediction: of the model on the prepared grid.
      labels: ground truth on the prepared grid, or None.
      grid: of the sample; padding belongs to no region.
      region: how the region is found.
      reference: which pixels of the class.

    Returns:
      The target, leaves on the prepared grid.

    Raises:
      ConfigError: the region does not lie in the image, or ground truth is missing.
    """
    rank = len(grid.prepared)
    plane = reference_plane(class_index, prediction, labels, reference, rank)
    inside = tuple(slice(size) for size in grid.resized)
    cut = plane[inside]
    if not cut.any():
        return None
    if region.kind == "mask":  # it lies on the grid of the sample
        mask = np.asarray(region.mask, bool)
        if mask.shape != grid.sample:
            raise ConfigError(
                f"region: a mask {mask.shape} for an image {grid.sample}; give one value a pixel"
            )
        found = grid.forward(mask)
    else:
        found = np.zeros(grid.prepared, bool)
        found[inside] = find_region(cut, region)
    if not (plane & found).any():
        return None
    valid = np.zeros(grid.prepared, bool)
    valid[inside] = True
    return SegmentTarget(class_index=np.int32(class_index), region=found, reference=plane & valid)


def as_planes(labels: np.ndarray | None, output: OutputSpec, rank: int) -> np.ndarray | None:
    """Ground truth in the form of the model's predictions.

    For classes that may overlap a label map becomes planes: number n > 0 is class n - 1, and 0 none
    of them. Planes stay planes, and a model of classes that exclude each other takes a label map.

    Raises:
      ConfigError: planes for a model whose classes exclude each other, or too few of them.
    """
    if labels is None:
        return None
    if not output.overlapping:
        if labels.ndim != rank:
            raise ConfigError(
                "labels are planes of classes that may overlap, but the model's classes exclude "
                "each other; give a label map"
            )
        return labels
    if labels.ndim == rank:
        return labels[..., None] == np.arange(1, output.num_classes + 1)
    if labels.shape[-1] != output.num_classes:
        raise ConfigError(
            f"labels have {labels.shape[-1]} planes, the model {output.num_classes} classes; give "
            "one plane a class"
        )
    return labels.astype(bool)
