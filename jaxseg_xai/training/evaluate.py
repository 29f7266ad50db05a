"""Held-out Dice of a model."""

from typing import Any

import jax
import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import Source, Predict, Sample
from jaxseg_xai.devices.mesh import device_mesh, pad_batch
from jaxseg_xai.ops.dice import hard_dice
from jaxseg_xai.program.predict import predict_labels


def evaluate(
    predict: Predict, variables: Any, dataset: Source, *, batch_size: int = 16
) -> dict[str, float]:
    """Mean Dice per foreground class over the images in which it occurs (truth or prediction).

    Args:
      predict: the model.
      variables: its weights.
      dataset: labelled images of one size.
      batch_size: images at a time, over all devices.

    Returns:
      Class name -> Dice in [0, 1] (NaN where the class occurs nowhere); "mean" over those classes.

    Raises:
      DataError: an image without a label map, or images of different sizes.
    """
    mesh = device_mesh()
    batch_size = -(-batch_size // mesh.size) * mesh.size
    found: list[list[float]] = [[] for _ in dataset.class_names[1:]]
    for start in range(0, len(dataset), batch_size):
        samples = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
        _check(samples)
        # Every batch has the same size, so that nothing recompiles for the last one.
        images = pad_batch(np.stack([sample.image for sample in samples]), batch_size)
        predicted, _ = jax.device_get(predict_labels(predict, variables, images, mesh))
        for sample, labels in zip(samples, predicted, strict=False):
            for index, dices in enumerate(found, start=1):
                truth, segment = sample.labels == index, labels == index
                if truth.any() or segment.any():
                    dices.append(float(hard_dice(jax.numpy.asarray(truth), segment)))
    means = [float(np.mean(dices)) if dices else float("nan") for dices in found]
    result = dict(zip(dataset.class_names[1:], means, strict=True))
    return result | {"mean": float(np.nanmean(means)) if any(map(len, found)) else 0.0}


def _check(samples: list[Sample]) -> None:
    for sample in samples:
        if sample.labels is None:
            raise DataError(f"{sample.id}: has no label map; evaluating needs one for every image")
        if sample.image.shape != samples[0].image.shape:
            raise DataError(
                f"{sample.id}: is of shape {sample.image.shape}, {samples[0].id} of "
                f"{samples[0].image.shape}; crop or resize the images to one size"
            )
