"""Batches for training: shuffled by epoch, augmented, read ahead; the same after a restart."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.core.inputs import prepare
from jaxseg_xai.core.types import Source

_MAX_SHIFT = 16


def training_batches(
    dataset: Source,
    batch_size: int,
    *,
    spec: InputSpec,
    seed: int,
    augment: bool,
    first_step: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless (images float32 [B, *S, C], labels int32 [B, *S]) from step `first_step` on.

    They are prepared as the network takes them. Batch k depends on (seed, k) only, so that an
    interrupted run continues as if it had not been.
    """
    with ThreadPoolExecutor(1) as pool:
        step = first_step
        ahead = pool.submit(_batch, dataset, batch_size, spec, seed, augment, step)
        while True:
            batch = ahead.result()
            step += 1
            ahead = pool.submit(_batch, dataset, batch_size, spec, seed, augment, step)
            yield batch


def _batch(
    dataset: Source, batch_size: int, spec: InputSpec, seed: int, augment: bool, step: int
) -> tuple[np.ndarray, np.ndarray]:
    places = np.arange(step * batch_size, (step + 1) * batch_size)
    images, labels = [], []
    for place in places:
        epoch, position = divmod(int(place), len(dataset))
        order = np.random.default_rng([seed, epoch]).permutation(len(dataset))
        sample = dataset[int(order[position])]
        if sample.labels is None:
            raise sample.labels_error or DataError(
                f"{sample.id}: has no label map; training needs one for every image"
            )
        if sample.labels.shape != sample.image.shape[:-1]:
            raise DataError(
                f"{sample.id}: labels {sample.labels.shape} for an image {sample.image.shape}; "
                "training needs one label a pixel"
            )
        prepared = prepare(sample, spec)
        image, label = prepared.image, prepared.grid.forward(sample.labels)
        if augment:
            image, label = _augment(image, label, np.random.default_rng([seed, 1, int(place)]))
        images.append(image)
        labels.append(label)
    if len({image.shape for image in images}) > 1:
        raise DataError("the training images differ in shape; crop or resize them to one size")
    return np.stack(images), np.stack(labels)


def _augment(
    image: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Left-right flip, shift, contrast (gamma), gain and noise; the image stays in [0, 1]."""
    axes = tuple(range(labels.ndim))
    if rng.random() < 0.5:
        image, labels = np.flip(image, axes[-1]), np.flip(labels, axes[-1])
    most = np.minimum(_MAX_SHIFT, np.array(labels.shape) // 4)
    shift = tuple(rng.integers(-most, most + 1))
    image, labels = np.roll(image, shift, axes), np.roll(labels, shift, axes)
    image = image ** rng.uniform(0.8, 1.25) * rng.uniform(0.9, 1.1)
    image = image + rng.normal(0, rng.uniform(0, 0.03), image.shape)
    return np.clip(image, 0, 1).astype(np.float32), np.ascontiguousarray(labels)
