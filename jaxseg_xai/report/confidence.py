"""The figure of the confidence scores."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxseg_xai.report import common, overlays, panels
from jaxseg_xai.store.records import StoredExplanation, StoredImage

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confidence_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """Where the model is unsure: prediction, entropy, and what changes when the image is turned."""
    entropy, _ = common.pictures(stored, image)
    figure, axes = panels.new_figure(1, 3, entropy.shape, text_height=1.2)
    explained = common.show_explained(axes[0, 0], stored, image, class_names)
    maps = {
        "Entropy of the classes": (entropy, "share of the largest possible"),
        "Test-time augmentation": (
            stored.maps.get("tta_disagreement"),
            "share of the views that disagree",
        ),
    }
    for panel, (title, (values, unit)) in zip(axes[0, 1:], maps.items(), strict=True):
        if values is None:
            panel.set_axis_off()
            continue
        shown = panels.show(panel, values, title, cmap="magma", vmin=0, vmax=1)
        panels.colour_bar(panel, shown, unit)
        panels.outline(panel, explained, overlays.ORANGE)
    scores = common.Scores(stored)
    panels.caption(
        figure,
        f"Inside the segment: confidence {scores('confidence', 3)}, entropy {scores('entropy', 3)}"
        f"  ·  at its outline: {scores('confidence_band', 3)}, {scores('entropy_band', 3)}\n"
        f"Turned and flipped images disagree by {scores('tta_disagreement', 3)} (1 - Dice)",
        common.STATUS_NOTES[stored.status],
    )
    return figure
