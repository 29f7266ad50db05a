"""One figure an explanation, by explainer; each says in words what its colours mean.

A figure function takes what the store gives back: the explanation, its image (None where the
store has none), the class names and the explainer's parameters.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.core.types import Status
from jaxseg_xai.report import common, overlays, panels
from jaxseg_xai.report.ate import ate_figure, ate_gradient_figure
from jaxseg_xai.report.confidence import confidence_figure
from jaxseg_xai.report.misure import misure_figure, misure_paper_figure
from jaxseg_xai.store.records import StoredExplanation, StoredImage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FigureFn = Callable[..., "Figure"]
#: By name of the explainer; the others get `attribution_figure`.
FIGURES: dict[str, FigureFn] = {
    "misure": misure_figure,
    "misure_paper": misure_paper_figure,
    "ate": ate_figure,
    "ate_gradient": ate_gradient_figure,
    "confidence": confidence_figure,
}
#: Explainer -> unit of its attribution, and what its scores say.
_WORDS: Mapping[str, tuple[str, Callable[[common.Scores], str]]] = {
    "integrated_gradients": (
        "summed logits",
        lambda scores: (
            f"Logits of the segment: {scores('outcome', 0)}; of a black image "
            f"{scores('baseline_outcome', 0)}. The pixels add up to the difference but for "
            f"{scores('completeness_gap', 0)}."
        ),
    ),
    "grad_cam": (
        "weighted activation",
        lambda scores: (
            f"The layer has {scores('height', 0)} x {scores('width', 0)} pixels. All 0 where its "
            "channels speak against the class."
        ),
    ),
}
#: Statuses whose maps are worth drawing.
_DRAWN = (Status.OK, Status.NOT_REACHED)


def draw(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
) -> "Figure":
    """The figure registered for the explainer, or the one that says why there is none."""
    drawable = stored.status in _DRAWN and stored.attribution is not None
    figure_fn = FIGURES.get(stored.explainer, attribution_figure) if drawable else message_figure
    return figure_fn(stored, image, class_names, parameters or {})


def attribution_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """Any other explainer: its attribution over the image, signed if it has both signs."""
    attribution, picture = common.pictures(stored, image)
    figure, axes = panels.new_figure(1, 3, attribution.shape, text_height=1.0)
    panels.show(axes[0, 0], picture, "Image")
    common.show_explained(axes[0, 1], stored, image, class_names)
    panels.show(axes[0, 2], overlays.to_grey(picture), f"Attribution of {stored.explainer}")
    sizes = np.abs(attribution[attribution != 0])
    # A few pixels can outweigh the rest by far; the ends of the scale are open instead.
    limit = float(np.percentile(sizes, 99)) if sizes.size else 1.0
    signed = bool((attribution < 0).any())
    unit, say = _WORDS.get(stored.explainer, ("attribution", None))
    heat = axes[0, 2].imshow(
        attribution,
        cmap="RdBu_r" if signed else "inferno",
        vmin=-limit if signed else 0,
        vmax=limit,
        alpha=0.7,
    )
    panels.colour_bar(axes[0, 2], heat, unit, extend="both" if signed else "max")
    for panel in axes[0]:
        panels.outline(panel, stored.region, overlays.GREEN)
    note = "Red: for the class; blue: against it." if signed else "Bright: matters for the class."
    lines = [note] + (["Green: the region explained."] if common.is_part(stored.region) else [])
    scores = f"\n{say(common.Scores(stored))}" if say else ""
    panels.caption(figure, "  ".join(lines) + scores, common.STATUS_NOTES[stored.status])
    return figure


def message_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """No explanation to show: what there is of the image, and why there is nothing else."""
    _, picture = common.pictures(stored, image)
    figure, axes = panels.new_figure(1, 2, picture.shape, text_height=0.5)
    label = stored.plan.class_index
    panels.show(axes[0, 0], picture, "Image" if image is not None else "No image stored")
    name = common.class_name(label, class_names)
    prediction = common.prediction_of(stored, image)
    title = f"Prediction (explained: {name})" if prediction is not None else "No prediction stored"
    common.show_prediction(axes[0, 1], picture, prediction, label, title)
    note = " ".join(filter(None, (common.STATUS_NOTES[stored.status], stored.reason)))
    panels.caption(figure, "", "\n".join(textwrap.wrap(note, 64)))
    return figure
