"""The figure of a MiSuRe explanation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.sweep.records import StoredExplanation, StoredImage
from jaxseg_xai.viz import common, overlays, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORANGE, BLUE = "#e69f00", "#56b4e9"


def misure_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """MiSuRe: from the prediction to the smallest region that suffices to get it back.

    Six panels: image; prediction; sufficient region; levels in [0, 1], above 0.5 in the
    minimal region; the image inside that region; what the model segments from it.
    """
    level, _ = common.pictures(stored, image)
    region = stored.maps.get("minimal_region", level > 0.5)
    figure, axes = _figure(stored, image, class_names, shown=np.asarray(region, float))
    title = "Minimally sufficient region\nbright: kept firmly"
    soft = panels.show(axes[1, 0], level, title, cmap="viridis", vmin=0, vmax=1)
    panels.colour_bar(axes[1, 0], soft, "level; the region is above 0.5")
    return figure


def misure_paper_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """MiSuRe with the published loss: as `misure_figure`, with a mask that may dim the image."""
    mask, _ = common.pictures(stored, image)
    figure, axes = _figure(stored, image, class_names, shown=np.clip(mask, 0, 1))
    title = "Minimally sufficient mask\nbright: the model needs it"
    soft = panels.show(axes[1, 0], mask, title, cmap="viridis", vmin=0, vmax=1)
    panels.colour_bar(axes[1, 0], soft, "share of the pixel kept")
    return figure


def _figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    shown: np.ndarray,
) -> tuple["Figure", Any]:
    """All panels but that of the attribution; `shown` [H, W] is what the image is multiplied by."""
    mask, picture = common.pictures(stored, image)
    name = common.class_name(stored.plan.class_index, class_names)
    label = stored.plan.class_index
    prediction = common.prediction_of(stored, image)
    explained = None if prediction is None else prediction == label
    figure, axes = panels.new_figure(2, 3, mask.shape, text_height=0.9)
    panels.show(axes[0, 0], picture, "Image")
    common.show_prediction(axes[0, 1], picture, prediction, label, f"Prediction: {name}")
    panels.show(axes[0, 2], picture, "Sufficient region (blue)\ngrown from the class (orange)")
    panels.outline(axes[0, 2], stored.maps.get("sufficient_region"), BLUE)
    panels.outline(axes[0, 2], explained, ORANGE)
    kept = overlays.blend(np.zeros_like(picture), picture, shown)
    panels.show(axes[1, 1], kept, "What the model is shown\nimage × mask")
    title = "What it segments from that\n(orange line: the original)"
    common.show_prediction(axes[1, 2], kept, stored.maps.get("masked_prediction"), label, title)
    panels.outline(axes[1, 2], explained, ORANGE)
    scores = common.Scores(stored)
    panels.caption(
        figure,
        f"{scores('num_dilations', 0)} dilations  ·  Dice with the original: "
        f"sufficient {scores('dice_sufficient', 3)}, minimal {scores('dice_minimal', 3)}\n"
        f"area: prediction {scores('area_target', 0)} px, "
        f"sufficient {scores('area_sufficient')}×, minimal {scores('area_minimal')}× that",
        common.STATUS_NOTES[stored.status],
    )
    return figure, axes
