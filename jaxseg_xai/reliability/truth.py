"""How good the segmentations of a sweep are, by the label maps that it stored."""

from collections import defaultdict
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxseg_xai.ops.dice import hard_dice
from jaxseg_xai.store.records import PlanRow
from jaxseg_xai.store.store import ExplanationStore


def true_dice(store: ExplanationStore, plans: Sequence[PlanRow]) -> np.ndarray:
    """Hard Dice of the predicted segments against the stored label maps, float64 [len(plans)].

    NaN where there is no label map, or where its numbers mean other classes than the model's.
    """
    dices = np.full(len(plans), np.nan)
    if tuple(store.attrs.get("label_names", ())) not in ((), store.class_names):
        return dices
    of_image: dict[int, list[int]] = defaultdict(list)
    for number, plan in enumerate(plans):
        of_image[plan.image_index].append(number)
    for index, numbers in of_image.items():
        image = store.read_image(index)
        if image is None or image.labels is None or image.prediction is None:
            continue
        for number in numbers:
            label = plans[number].class_index
            segment, truth = (jnp.asarray(m == label) for m in (image.prediction, image.labels))
            dices[number] = float(hard_dice(segment, truth))
    return dices
