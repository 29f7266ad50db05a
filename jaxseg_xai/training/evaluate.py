"""Held-out Dice of a model."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Sample, Source, known_pixels, plane_of
from jaxseg_xai.devices.mesh import device_mesh, pad_batch
from jaxseg_xai.ops.dice import hard_dice
from jaxseg_xai.program.predict import predict_batch


def evaluate(
    segmenter: Segmenter, variables: Any, dataset: Source, *, batch_size: int = 16
) -> dict[str, float]:
    """Mean Dice per class over the images in which it occurs (truth or prediction).

    Dice is that of the image's own pixels: predictions are brought back from what the model takes.

    Args:
      segmenter: the model.
      variables: its weights.
      dataset: labelled images of one size.
      batch_size: images at a time, over all devices.

    Returns:
      Name of a class but the background -> Dice in [0, 1] (NaN where it occurs nowhere); "mean"
      over those classes.

    Raises:
      DataError: an image without labels, or images of different sizes.
    """
    mesh, output, rank = device_mesh(), segmenter.output, segmenter.input.rank
    # Of few images no larger batch: what fills one up costs as much as they do.
    batch_size = -(-min(batch_size, max(1, len(dataset))) // mesh.size) * mesh.size
    found: dict[int, list[float]] = {index: [] for index in output.foreground}
    for start in range(0, len(dataset), batch_size):
        samples = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
        _check(samples)
        prepared = [prepare(sample, segmenter.input) for sample in samples]
        # Every batch has the same size, so that nothing recompiles for the last one.
        images = pad_batch(np.stack([item.image for item in prepared]), batch_size)
        predicted = np.asarray(predict_batch(segmenter, variables, images, mesh)[0])
        for sample, item, prediction in zip(samples, prepared, predicted, strict=False):
            segmentation = item.grid.back(prediction)
            known = known_pixels(np.asarray(sample.labels), rank)
            for index, dices in found.items():
                truth = plane_of(np.asarray(sample.labels), index, rank)
                segment = plane_of(segmentation, index, rank) & known
                if truth.any() or segment.any():
                    dices.append(float(hard_dice(jnp.asarray(truth), jnp.asarray(segment))))
    means = {
        output.class_names[index]: float(np.mean(dices)) if dices else float("nan")
        for index, dices in found.items()
    }
    occurring = any(map(len, found.values()))
    return means | {"mean": float(np.nanmean(list(means.values()))) if occurring else 0.0}


def _check(samples: list[Sample]) -> None:
    for sample in samples:
        if sample.labels is None:
            raise sample.labels_error or DataError(
                f"{sample.id}: has no label map; evaluating needs one for every image"
            )
        if sample.image.shape != samples[0].image.shape:
            raise DataError(
                f"{sample.id}: is of shape {sample.image.shape}, {samples[0].id} of "
                f"{samples[0].image.shape}; crop or resize the images to one size"
            )
