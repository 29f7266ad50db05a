"""Pictures of a comparison: pies, histograms, matrices of agreement, maps side by side."""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxseg_xai.comparison.maps import BlockMap, ModelMaps
from jaxseg_xai.report import overlays, panels
from jaxseg_xai.report.effects import bin_labels, paint_effects, show_bins
from jaxseg_xai.report.overlays import BLUE, GREEN, RED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxseg_xai.comparison.result import Comparison

#: Panels beside each other.
_WIDE = 4
#: Inches of a cell of a matrix, and of the names beside it.
_CELL, _NAMES = 0.55, 1.6
_PALE = "#d9d9d9"
_LEGEND = (
    "Red: the outcome falls when the block is replaced (negative effect), so its content helps. "
    "Blue: it rises, so its content hurts."
)


def pies(comparison: "Comparison") -> "Figure":
    """Shares of positive, negative and zero blocks, a pie a model."""
    rows = comparison.per_model[: len(comparison.models)]
    figure, panels_ = _panels(len(rows), width=2.5, height=2.8)
    for axes, row in zip(panels_, rows, strict=True):
        shares = [row["negative"], row["positive"], row["zero"]]
        axes.pie(
            shares,
            colors=[RED, BLUE, _PALE],
            startangle=90,
            counterclock=False,
            wedgeprops={"edgecolor": "white", "linewidth": 1.2},
        )
        negative, positive, zero = shares
        words = f"{negative:.1%} negative\n{positive:.1%} positive\n{zero:.1%} zero"
        axes.set_xlabel(words, fontsize=8.5)
        axes.set_title(row["model"], fontsize=9.5, parse_math=False)
    blocks = f"{rows[0]['num_maps']} map(s) with {rows[0]['num_blocks']} blocks"
    panels.caption(figure, f"Shares of blocks ({blocks}). {_LEGEND} Grey: below the threshold.")
    return figure


def histograms(comparison: "Comparison") -> "Figure":
    """Blocks in each of the nine bins, a panel a model."""
    labels = bin_labels(comparison.threshold)
    rows = comparison.per_model[: len(comparison.models)]
    figure, panels_ = _panels(len(rows), width=2.7, height=2.7)
    for place, (axes, row) in enumerate(zip(panels_, rows, strict=True)):
        shares = 100 * np.array(row["histogram"]) / row["num_blocks"]
        show_bins(axes, labels, shares, [str(count) if count else "" for count in row["histogram"]])
        axes.set_xlim(0, 118)
        axes.set_title(row["model"], fontsize=9.5, parse_math=False)
        if place % _WIDE:
            axes.set_yticklabels([])
    panels.caption(
        figure,
        f"Blocks by their effect ({comparison.unit}); bars are shares, numbers blocks. {_LEGEND}",
    )
    return figure


def matrices(comparison: "Comparison") -> "Figure":
    """Agreement in sign, and rank correlation, of each two models."""
    names = comparison.names
    side = max(_CELL * len(names), 1.5)
    figure, axes = panels.new_figure(1, 2, 2 * side + 2 * _NAMES, side + _NAMES + 0.6)
    kinds = (
        ("same_sign_nonzero", "Same sign\n(not both zero)", "Greens", 0),
        ("spearman", "Rank correlation\n(Spearman)", "PuOr", -1),
    )
    for panel, (measure, title, colours, low) in zip(axes[0], kinds, strict=True):
        _show_matrix(panel, comparison.matrix(measure), names, title, colours, low)
    axes[0, 1].set_yticklabels([])
    maps = len(comparison.models[0].maps)
    panels.caption(figure, f"Means over {maps} map(s), leaving out those without a value (–).")
    return figure


def maps(comparison: "Comparison", max_items: int) -> "Figure | None":
    """Maps of the models side by side, a row an image; None where there are none to draw."""
    first = comparison.models[0].maps
    if len(first[0].grid) != 2 or not max_items:
        return None
    number = min(max_items, len(first))
    chosen = ((np.arange(number) + 0.5) * len(first) / number).astype(int)
    drawn = [(k, list(_row(comparison.models, k))) for k in chosen]
    shown = np.concatenate([one.values for _, row in drawn for _, one, _ in row])
    limit = overlays.effect_limit(shown)
    scale = panels.colour_scale(-limit, limit, "RdBu")
    known = any(model.store is not None for model in comparison.models)
    columns = known + len(comparison.models)
    shapes = [row[0][2].shape[:2] for _, row in drawn for _ in range(columns)]
    panel = 1.9
    figure, axes = panels.new_figure(
        number, columns, panel * columns, sum(panel * h / w for h, w in shapes[::columns]) + 0.8
    )
    for place, (_, row) in enumerate(drawn):
        _, one, picture = row[0]
        if known:
            panels.show(axes[place, 0], picture, "" if place else "Image")
            _outline(axes[place, 0], one, comparison.models[0], picture)
        for panel_, (model, found, _) in zip(axes[place, known:], row, strict=True):
            effects = found.paint(found.effects, model.block_size, picture.shape[:2])
            overlay = paint_effects(picture, effects, limit, scale)
            panels.show(panel_, overlay, "" if place else model.name)
            _outline(panel_, found, model, picture)
        words = "\n".join(_cut(word) for word in (one.image_id, one.class_name) if word)
        axes[place, 0].set_ylabel(words, fontsize=8, parse_math=False)
    panels.colour_bar(axes[-1, -1], scale, f"effect ({comparison.unit})", extend="both")
    panels.caption(figure, f"Effects of replacing blocks; green: the region. {_LEGEND}")
    return figure


def _row(models: Sequence[ModelMaps], k: int) -> "Iterator[tuple[ModelMaps, BlockMap, np.ndarray]]":
    """Model, map and picture, for each model; the picture is the same for all."""
    pictures = (_picture(model, model.maps[k]) for model in models)
    found = next((picture for picture in pictures if picture is not None), None)
    picture = np.full((*models[0].maps[k].grid, 3), 200, np.uint8) if found is None else found
    for model in models:
        yield model, model.maps[k], picture


def _picture(model: ModelMaps, one: BlockMap) -> np.ndarray | None:
    if model.store is None or one.row is None:
        return None
    stored = model.store.read_image(one.row)
    return None if stored is None else stored.image


def _outline(axes: "Axes", one: BlockMap, model: ModelMaps, picture: np.ndarray) -> None:
    if one.box is None:
        inside = one.paint(~one.outside, model.block_size, picture.shape[:2])
    else:
        (top, left), side = one.box[:2], one.box[2]
        scale = [size / seen for size, seen in zip(picture.shape, one.grid, strict=False)]
        y, x = (np.arange(size) / by for size, by in zip(picture.shape, scale, strict=False))
        inside = ((y >= top) & (y < top + side))[:, None] & (x >= left) & (x < left + side)
    panels.outline(axes, inside, GREEN, width=1.2)


def _show_matrix(
    axes: "Axes", values: np.ndarray, names: Sequence[str], title: str, colours: str, low: float
) -> None:
    scale = panels.colour_scale(low, 1, colours)
    panels.show(axes, values, title, cmap=scale.cmap, norm=scale.norm)
    places = np.arange(len(names))
    axes.set_xticks(places, names, rotation=45, ha="right", fontsize=8, parse_math=False)
    axes.set_yticks(places, names, fontsize=8, parse_math=False)
    axes.tick_params(length=0)
    for i, j in itertools.product(range(len(names)), repeat=2):
        value = values[i, j]
        dark = np.isfinite(value) and abs(value) > 0.65
        words = f"{value:.2f}" if np.isfinite(value) else "–"
        colour = "white" if dark else "black"
        axes.text(j, i, words, ha="center", va="center", fontsize=8, color=colour)


def _panels(number: int, *, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    """A figure with so many panels, at most `_WIDE` beside each other."""
    wide = min(number, _WIDE)
    rows = -(-number // wide)
    figure, axes = panels.new_figure(rows, wide, max(width * wide, 5), height * rows)
    every: list[Any] = list(axes.ravel())
    for unused in every[number:]:
        unused.set_visible(False)
    return figure, every[:number]


def _cut(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"
