"""The figure of an explanation that was computed by hand and is in no store."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxseg_xai.core.display import to_display
from jaxseg_xai.core.types import Explanation, Sample, SegmentTarget, Status
from jaxseg_xai.explainers import Explainer
from jaxseg_xai.report import figures
from jaxseg_xai.store.records import PlanRow, StoredExplanation, StoredImage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def explanation_figure(
    explainer: Explainer,
    sample: Sample,
    target: SegmentTarget,
    explanation: Explanation,
    class_names: Sequence[str] = (),
) -> "Figure":
    """What `sweep` and `report` would draw of it.

    Args:
      explainer: that made the explanation.
      sample: the image.
      target: what was explained, without a batch axis.
      explanation: without a batch axis.
      class_names: one per class, background first.
    """
    target, found = jax.tree.map(np.asarray, (target, explanation))
    prediction = found.maps.get("prediction")
    stored = StoredExplanation(
        explainer=explainer.name,
        row=0,
        plan=PlanRow(
            image_index=0, image_id=sample.id, class_index=int(target.class_index), region_name=""
        ),
        status=Status(int(found.status)),
        reason="",
        attribution=found.attribution,
        region=target.region,
        reference=target.reference,
        maps=found.maps,
        scores={name: float(score) for name, score in found.scores.items()},
        traces=found.traces,
    )
    image = StoredImage(
        id=sample.id,
        image=np.broadcast_to(to_display(sample.image), (*sample.image.shape[:2], 3)),
        labels=sample.labels,
        prediction=prediction,
    )
    parameters = dataclasses.asdict(explainer)  # pyright: ignore[reportArgumentType]
    return figures.draw(stored, image, class_names, parameters)
