"""The figure of an average treatment effect."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.report import common, overlays, panels
from jaxseg_xai.store.records import StoredExplanation, StoredImage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

YELLOW = "#f0e442"
#: What the outcomes are called.
OUTCOME = {"dice": "Dice", "soft_dice": "soft Dice", "mean_probability": "mean probability"}
RED, GREY, BLUE, BLACK = "#b2182b", "#8a8a8a", "#2166ac", "#000000"


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
    outcome = _outcome(parameters)
    figure, axes = _effects(stored, image, class_names, 3, outcome)
    panels.outline(axes[0, 1], stored.maps.get("significant"), BLACK)
    scores = common.Scores(stored)
    _show_histogram(axes[0, 2], stored, parameters.get("threshold"))
    panels.caption(
        figure,
        f"{outcome} in the region: {scores('base_dice', 1)} points  ·  "
        f"{scores('num_interventions', 0)} interventions  ·  "
        f"{scores('num_significant', 0)} blocks significant (black outline)\n"
        f"Each block was replaced by other content. Red: {outcome} falls (negative ATE), so the "
        f"block's own content helps.\nBlue: {outcome} rises (positive ATE), so its content hurts.",
        common.STATUS_NOTES[stored.status],
    )
    return figure


def ate_gradient_figure(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    parameters: Mapping[str, Any],
) -> "Figure":
    """The gradient form of the ATE, in points of its soft outcome; colours as in `ate_figure`."""
    outcome = _outcome(parameters)
    figure, _ = _effects(stored, image, class_names, 2, outcome)
    scores = common.Scores(stored)
    panels.caption(
        figure,
        f"{outcome} in the region: {scores('base_outcome', 1)} points; {scores('field_effect', 1)} "
        "when all blocks are replaced.\n"
        f"The blocks' effects add up to that but for {scores('completeness_gap', 1)} points.",
        common.STATUS_NOTES[stored.status],
    )
    return figure


def _outcome(parameters: Mapping[str, Any]) -> str:
    """In words; a function of the user's has its own name."""
    name = str(parameters.get("outcome", "dice"))
    return OUTCOME.get(name, name)


def _effects(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    columns: int,
    outcome: str,
) -> tuple["Figure", Any]:
    """A figure whose first two panels are what is explained, and the effects of the blocks."""
    ate, picture = common.pictures(stored, image)
    name = common.class_name(stored.plan.class_index, class_names)
    figure, axes = panels.new_figure(1, columns, ate.shape, text_height=1.5)
    panels.show(axes[0, 0], picture, f"Explained: {name} (yellow)\nin the region (green)")
    panels.outline(axes[0, 0], stored.reference, YELLOW)
    effects = np.abs(ate[ate != 0])
    # A few blocks can outweigh the rest a hundredfold; the ends of the scale are open instead.
    limit = float(np.percentile(effects, 98)) if effects.size else 1.0
    # Imported here: matplotlib is optional, and new_figure has said so if it is absent.
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-limit, limit), "RdBu")
    opacity = np.where(ate == 0, 0, 0.25 + 0.6 * np.clip(np.abs(ate) / limit, 0, 1))
    painted = scale.to_rgba(ate)[:, :, :3] * 255
    overlay = overlays.blend(overlays.to_grey(picture), painted, opacity)
    panels.show(axes[0, 1], overlay, "Red: content that helps\nblue: content that hurts")
    panels.colour_bar(axes[0, 1], scale, f"change of {outcome} if replaced (points)", extend="both")
    for panel in axes[0, :2]:
        panels.outline(panel, stored.region, overlays.GREEN)
    return figure, axes


def _show_histogram(axes: "Axes", stored: StoredExplanation, threshold: float | None) -> None:
    """Blocks by size of their effect, and the shares that help, do nothing and hurt."""
    fixed = [0.3, 1, 3]
    if threshold is None:
        positive = ["t", *map(str, fixed)]
    else:
        positive = [f"{edge:g}" for edge in sorted([threshold, *fixed])]
    edges = [f"−{edge}" for edge in reversed(positive)] + positive
    labels = [f"< {edges[0]}", *(f"{a} … {b}" for a, b in itertools.pairwise(edges))]
    labels.append(f"> {edges[-1]}")
    labels[4] = "no effect"
    counts = np.nan_to_num(stored.traces.get("histogram", np.zeros(9)))
    bars = axes.barh(labels, counts, color=[RED] * 4 + [GREY] + [BLUE] * 4)
    axes.bar_label(bars, [f"{count:.0f}" for count in counts], fontsize=7.5, padding=2)
    axes.set_xlim(0, max(counts.max(), 1) * 1.18)
    axes.set_xticks([])
    axes.invert_yaxis()
    axes.tick_params(labelsize=7.5, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    kinds = {"help": "num_negative", "none": "num_zero", "hurt": "num_positive"}
    numbers = {kind: stored.scores.get(score, np.nan) for kind, score in kinds.items()}
    total = sum(numbers.values()) or np.nan
    shares = [f"{common.number(100 * n / total, 0, '%')} {kind}" for kind, n in numbers.items()]
    axes.set_title("Blocks by effect (points)\n" + "  ·  ".join(shares), fontsize=9.5, loc="right")
