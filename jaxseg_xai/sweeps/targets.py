"""From segmentations to what is explained in them."""

from typing import Literal, get_args

import numpy as np

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.inputs import Grid
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import (
    Sample,
    SegmentTarget,
    Status,
    known_pixels,
    plane_of,
    planes_where_known,
)
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.outcomes import OUTCOMES
from jaxseg_xai.sweeps.regions import Region, find_region

#: Which pixels of the class are explained: those predicted, those of the ground truth, those
#: predicted that are none, and those that are some and not predicted.
Reference = Literal["prediction", "truth", "false_positives", "false_negatives"]


def check_reference(reference: str) -> None:
    """Raise `ConfigError` for an unknown kind of reference."""
    if reference not in get_args(Reference):
        raise ConfigError(f"target is {reference!r}; use {', '.join(get_args(Reference))}")


def check_mistakes(label: str, explainer: Explainer, region: Region, reference: Reference) -> None:
    """Raise `ConfigError` for mistakes of the model explained by what counts more than them.

    The Dice of all that is segmented with the false positives says nothing of these, but where the
    region is one component of them.
    """
    mistakes = reference in ("false_positives", "false_negatives")
    if not mistakes or not explainer.counts_beside or region.kind in ("component", "point"):
        return
    names = " or ".join(n for n, outcome in OUTCOMES.usable() if not outcome.counts_beside)
    has_outcome = hasattr(explainer, "outcome")
    remedy = f"set its outcome to {names}" if has_outcome else f"use a method with outcome {names}"
    raise ConfigError(
        f"{label} compares all that is segmented in the region with the "
        f"{reference.replace('_', ' ')}, which says nothing of these; {remedy}, or explain one of "
        "them (region component, component N or a point)"
    )


def reference_plane(
    predicted: np.ndarray, truth: np.ndarray | None, reference: Reference
) -> np.ndarray:
    """The pixels of a class that are explained, bool [*S].

    Args:
      predicted: those that the model predicts, bool [*S].
      truth: those of the ground truth, bool [*S], or None.
      reference: which pixels.

    Raises:
      ConfigError: ground truth is asked for and there is none.
    """
    if reference == "prediction":
        return predicted
    if truth is None:
        raise ConfigError(
            f"target {reference} needs ground truth, and this image has no labels; give labels, or "
            "explain the prediction"
        )
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
) -> SegmentTarget | Status:
    """The target of one explanation, or the status that says why there is nothing to explain.

    Regions count the sample's own pixels: they are found on its grid, then brought to the prepared
    one; those of a list count the prepared image's.

    Args:
      class_index: the class.
      prediction: of the model on the prepared grid, a label map [*S] or planes [*S, K].
      labels: ground truth on the sample's grid in the same form, or None.
      grid: of the sample; padding belongs to no region.
      region: how the region is found.
      reference: which pixels of the class.

    Returns:
      The target, leaves on the prepared grid.

    Raises:
      ConfigError: the region does not lie in the image, is lost when the image is resized, or
        ground truth is missing.
    """
    rank = len(grid.prepared)
    predicted = plane_of(prediction, class_index, rank)
    truth = None if labels is None else plane_of(labels, class_index, rank)
    own = reference_plane(grid.back(predicted), truth, reference)
    known = np.ones(grid.sample, bool)
    if labels is not None and reference != "prediction":
        known = known_pixels(labels, rank)
        own = own & known
    seen = None if truth is None else grid.forward(truth)
    plane = reference_plane(predicted, seen, reference) & grid.valid
    if not own.any() or not plane.any():
        return Status.EMPTY_TARGET
    found = find_region(plane if region.seen else own, region)
    if not found.any():
        return Status.EMPTY_REGION
    moved = found & grid.valid if region.seen else grid.forward(found)
    if not moved.any():
        size = "x".join(map(str, grid.resized))
        raise ConfigError(
            f"region: none of its pixels is left when the image is resized to {size}; choose a "
            "larger region"
        )
    moved = moved & grid.forward(known)
    if not (plane & moved).any():
        return Status.EMPTY_TARGET
    return SegmentTarget(class_index=np.int32(class_index), region=moved, reference=plane)


def as_planes(sample: Sample, output: OutputSpec, rank: int) -> np.ndarray | None:
    """Ground truth of a sample in the form of the model's predictions; None where there is none.

    For classes that may overlap a label map becomes planes: number n > 0 is class n - 1, and 0 none
    of them; where it is `IGNORED`, all planes are. Planes stay planes, and a model of classes that
    exclude each other takes a label map.

    Raises:
      DataError: `Sample.labels_error`, labels of another size than the image's, planes for a model
        whose classes exclude each other, too few of them, or a label that is no class of the model.
    """
    if sample.labels_error is not None:
        raise sample.labels_error
    labels = sample.labels
    if labels is None:
        return None
    size = np.shape(sample.image)[:rank]
    if labels.shape[:rank] != size:
        raise DataError(
            f"{sample.id}: labels {labels.shape} for an image {size}; give one label a pixel, or "
            "planes [*S, classes]"
        )
    if labels.ndim == rank:
        last = output.num_classes - (not output.overlapping)
        known = known_pixels(labels, rank)
        wrong = labels[known & ((labels < 0) | (labels > last))]
        if wrong.size:
            raise DataError(
                f"{sample.id}: label {wrong[0]} is out of range (0 to {last}); map it to a class "
                "of the model"
            )
        if output.overlapping:
            planes = labels[..., None] == np.arange(1, output.num_classes + 1)
            return planes_where_known(planes, known)
        return labels
    if not output.overlapping:
        raise DataError(
            f"{sample.id}: labels are planes of classes that may overlap, but the model's classes "
            "exclude each other; give a label map"
        )
    if labels.shape[-1] != output.num_classes:
        raise DataError(
            f"{sample.id}: labels have {labels.shape[-1]} planes, the model {output.num_classes} "
            "classes; give one plane a class"
        )
    return planes_where_known(labels == 1, known_pixels(labels, rank))
