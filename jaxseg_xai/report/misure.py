"""The figure of a MiSuRe explanation."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.report import common, overlays, panels
from jaxseg_xai.store.records import StoredExplanation, StoredImage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE = "#56b4e9"


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
    region = np.asarray(stored.maps.get("minimal_region", level > 0.5), float)
    title = "Minimally sufficient region\nbright: kept firmly"
    return _figure(stored, image, class_names, region, title, "level; the region is above 0.5")


def misure_paper_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """MiSuRe with the published loss: as `misure_figure`, with a mask that may dim the image."""
    mask, _ = common.pictures(stored, image)
    shown = np.clip(mask, 0, 1)
    title = "Minimally sufficient mask\nbright: the model needs it"
    return _figure(stored, image, class_names, shown, title, "share of the pixel kept")


def _figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    shown: np.ndarray,
    title: str,
    unit: str,
) -> "Figure":
    """`shown` [H, W] is what the image is multiplied by, `title` and `unit` the attribution's."""
    mask, picture = common.pictures(stored, image)
    figure, axes = panels.new_figure(2, 3, mask.shape, text_height=0.9)
    panels.show(axes[0, 0], picture, "Image")
    explained = common.show_explained(axes[0, 1], stored, image, class_names)
    panels.show(axes[0, 2], picture, "Sufficient region (blue)\ngrown from the class (orange)")
    panels.outline(axes[0, 2], stored.maps.get("sufficient_region"), BLUE)
    panels.outline(axes[0, 2], explained, overlays.ORANGE)
    soft = panels.show(axes[1, 0], mask, title, cmap="viridis", vmin=0, vmax=1)
    panels.colour_bar(axes[1, 0], soft, unit)
    kept = overlays.blend(np.zeros_like(picture), picture, shown)
    panels.show(axes[1, 1], kept, "What the model is shown\nimage × mask")
    title = "What it segments from that\n(orange line: the original)"
    masked = stored.maps.get("masked_prediction")
    common.show_prediction(axes[1, 2], kept, masked, stored.plan.class_index, title)
    panels.outline(axes[1, 2], explained, overlays.ORANGE)
    scores = common.Scores(stored)
    panels.caption(
        figure,
        f"{scores('num_dilations', 0)} dilations  ·  Dice with the original: "
        f"sufficient {scores('dice_sufficient', 3)}, minimal {scores('dice_minimal', 3)}\n"
        f"area: prediction {scores('area_target', 0)} px, "
        f"sufficient {scores('area_sufficient')}×, minimal {scores('area_minimal')}× that",
        common.STATUS_NOTES[stored.status],
    )
    return figure
