"""How good the segmentations of a sweep are, by the ground truth that it stored."""

from collections import defaultdict
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.types import known_pixels, plane_of
from jaxseg_xai.ops.dice import hard_dice
from jaxseg_xai.store import Row, Store


def true_dice(store: Store, rows: Sequence[Row]) -> np.ndarray:
    """Hard Dice of the predicted segments against the stored ground truth, float64 [len(rows)].

    Images or volumes, label maps or planes. NaN where there is no ground truth, or where its
    numbers mean other classes than the model's.
    """
    dices = np.full(len(rows), np.nan)
    named = tuple(store.attrs.get("label_names", ()))
    # Label maps of classes that may overlap have a background, and are stored as planes.
    if named not in ((), store.class_names) and named[1:] != store.class_names:
        return dices
    of_image: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        of_image[row.image_index].append(number)
    for index, numbers in of_image.items():
        image = store.read_image(index)
        if image is None or image.labels is None or image.prediction is None:
            continue
        known = known_pixels(image.labels, store.rank)
        for number in numbers:
            segment, truth = (
                jnp.asarray(plane_of(segmentation, rows[number].class_index, store.rank) & known)
                for segmentation in (image.prediction, image.labels)
            )
            dices[number] = float(hard_dice(segment, truth))
    return dices
