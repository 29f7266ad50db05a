"""One figure an explanation, by explainer; each says in words what its colours mean.

A figure function takes what the store gives back: the explanation, its image (None where the
store has none), the class names and the explainer's parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.sweep.records import StoredExplanation, StoredImage
from jaxseg_xai.types import Status
from jaxseg_xai.viz import overlays, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FigureFn = Callable[..., "Figure"]
GREEN, ORANGE, BLUE, YELLOW = "#00c853", "#e69f00", "#56b4e9", "#f0e442"
RED_BLUE = ("#b2182b", "#8a8a8a", "#2166ac")
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


def class_name(class_index: int, class_names: Sequence[str]) -> str:
    """Name of a class, or "class 3" where it has none."""
    known = 0 <= class_index < len(class_names)
    return class_names[class_index] if known else f"class {class_index}"


def misure_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """MiSuRe: from the prediction to the mask that suffices to get it back.

    Six panels: image; prediction; sufficient region; soft mask in [0, 1]; image * mask; what the
    model segments from that.
    """
    mask, picture = _pictures(stored, image)
    name = class_name(stored.plan.class_index, class_names)
    label = stored.plan.class_index
    prediction = _prediction(stored, image)
    explained = None if prediction is None else prediction == label
    figure, axes = panels.new_figure(2, 3, mask.shape)
    panels.show(axes[0, 0], picture, "Image")
    _show_prediction(axes[0, 1], picture, prediction, label, f"Prediction: {name}")
    panels.show(axes[0, 2], picture, f"Sufficient region (blue)\ngrown from the {name} (orange)")
    panels.outline(axes[0, 2], stored.maps.get("sufficient_region"), BLUE)
    panels.outline(axes[0, 2], explained, ORANGE)
    title = "Minimally sufficient mask\nbright: the model needs it"
    soft = panels.show(axes[1, 0], mask, title, cmap="viridis", vmin=0, vmax=1)
    panels.colour_bar(axes[1, 0], soft, "share of the pixel kept")
    kept = overlays.blend(np.zeros_like(picture), picture, np.clip(mask, 0, 1))
    panels.show(axes[1, 1], kept, "What the model is shown\nimage × mask")
    title = "What it segments from that\n(orange line: the original)"
    _show_prediction(axes[1, 2], kept, stored.maps.get("masked_prediction"), label, title)
    panels.outline(axes[1, 2], explained, ORANGE)
    scores = _Scores(stored)
    panels.footer(
        figure,
        f"{scores('num_dilations', 0)} dilations  ·  Dice with the original: "
        f"region {scores('dice_sufficient', 3)}, mask {scores('dice_minimal', 3)}  ·  "
        f"area: prediction {scores('area_target', 0)} px, "
        f"region {scores('area_sufficient')}×, mask {scores('area_minimal')}× that",
        panels.STATUS_NOTES[stored.status],
    )
    return figure


def ate_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """Average treatment effect of replacing each block, in Dice points.

    ATE = mean(O(replaced) - O(original)): where it is negative (red) the block's own content
    helps, where it is positive (blue) the content hurts.
    """
    ate, picture = _pictures(stored, image)
    name = class_name(stored.plan.class_index, class_names)
    figure, axes = panels.new_figure(1, 3, ate.shape)
    scores = _Scores(stored)
    panels.show(axes[0, 0], picture, f"Explained: {name} (yellow)\nin the box (green)")
    panels.outline(axes[0, 0], stored.reference, YELLOW)
    effects = np.abs(ate[ate != 0])
    # A few blocks can outweigh the rest a hundredfold; the ends of the scale are open instead.
    limit = float(np.percentile(effects, 98)) if effects.size else 1.0
    colours, scale = _signed(limit)
    opacity = np.where(ate == 0, 0, 0.25 + 0.6 * np.clip(np.abs(ate) / limit, 0, 1))
    painted = colours(0.5 + 0.5 * np.clip(ate / limit, -1, 1))[:, :, :3] * 255
    overlay = overlays.blend(overlays.to_grey(picture), painted, opacity)
    panels.show(axes[0, 1], overlay, "Red: content that helps\nblue: content that hurts")
    panels.colour_bar(axes[0, 1], scale, "change of Dice (points)\nif replaced", extend="both")
    for panel in axes[0, :2]:
        panels.outline(panel, stored.region, GREEN)
    _show_histogram(axes[0, 2], stored, parameters.get("threshold"))
    panels.footer(
        figure,
        f"Dice in the box: {scores('base_dice', 1)} points  ·  "
        f"{scores('num_interventions', 0)} interventions\n"
        "Each block was replaced by other content. Red: Dice falls (negative ATE), so the block's "
        "own content helps.\nBlue: Dice rises (positive ATE), so its own content hurts.",
        panels.STATUS_NOTES[stored.status],
    )
    return figure


def attribution_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """Any other explainer: its attribution over the image, signed if it has both signs."""
    attribution, picture = _pictures(stored, image)
    label = stored.plan.class_index
    figure, axes = panels.new_figure(1, 3, attribution.shape)
    panels.show(axes[0, 0], picture, "Image")
    name = class_name(label, class_names)
    _show_prediction(
        axes[0, 1], picture, _prediction(stored, image), label, f"Prediction: {name}"
    )
    panels.show(axes[0, 2], overlays.to_grey(picture), f"Attribution of {stored.explainer}")
    limit = float(np.abs(attribution).max()) or 1.0
    signed = bool((attribution < 0).any())
    heat = axes[0, 2].imshow(
        attribution,
        cmap="RdBu_r" if signed else "inferno",
        vmin=-limit if signed else 0,
        vmax=limit,
        alpha=0.7,
    )
    panels.colour_bar(axes[0, 2], heat, "attribution")
    for panel in axes[0]:
        panels.outline(panel, stored.region, GREEN)
    note = "Red: for the class; blue: against it." if signed else "Bright: matters for the class."
    lines = [note] + (["Green: the region explained."] if _is_part(stored.region) else [])
    panels.footer(figure, "  ".join(lines), panels.STATUS_NOTES[stored.status])
    return figure


def message_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """No explanation to show: what there is of the image, and why there is nothing else."""
    _, picture = _pictures(stored, image)
    figure, axes = panels.new_figure(1, 2, picture.shape)
    label = stored.plan.class_index
    panels.show(axes[0, 0], picture, "Image" if image is not None else "No image stored")
    name = class_name(label, class_names)
    prediction = _prediction(stored, image)
    title = f"Prediction (explained: {name})" if prediction is not None else "No prediction stored"
    _show_prediction(axes[0, 1], picture, prediction, label, title)
    note = "\n".join(filter(None, (panels.STATUS_NOTES[stored.status], stored.reason)))
    wrapped = [_wrap(line, 64) for line in note.split("\n")]
    panels.footer(figure, "", "\n".join(wrapped).replace("$", r"\$"))
    return figure


FIGURES: dict[str, FigureFn] = {"misure": misure_figure, "ate": ate_figure}
