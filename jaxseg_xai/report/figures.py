"""One figure an explanation, by the kind that its method names; each says what its colours mean."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jaxseg_xai.report import panels, segments
from jaxseg_xai.report.effects import effects_figure
from jaxseg_xai.report.heat import heat_figure
from jaxseg_xai.report.parts import parts_figure
from jaxseg_xai.report.record import Record, meta_of
from jaxseg_xai.report.regions import regions_figure
from jaxseg_xai.report.slices import pictures_of
from jaxseg_xai.report.uncertainty import uncertainty_figure
from jaxseg_xai.report.upright import upright
from jaxseg_xai.store import Entry, Row, Store, StoredExplanation, StoredImage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: `Meta.figure` -> what draws it.
FIGURES: dict[str, Callable[[Record], "Figure"]] = {
    "heat": heat_figure,
    "effects": effects_figure,
    "regions": regions_figure,
    "uncertainty": uncertainty_figure,
    "parts": parts_figure,
}


def draw(
    stored: StoredExplanation,
    image: StoredImage | None,
    class_names: Sequence[str],
    entry: Entry,
) -> "Figure":
    """The figure of an explanation, or one that says why there is none.

    Args:
      stored: from `Store.read`.
      image: from `Store.read_image`; None draws a grey one.
      class_names: one per class.
      entry: the method and its settings, from `Store.entry`.

    Raises:
      MissingExtraError: without the extra `report`.
    """
    meta = meta_of(entry)
    record = Record(stored=stored, image=image, class_names=class_names, entry=entry, meta=meta)
    has_map = stored.attribution is not None or meta.figure == "parts"
    drawn = FIGURES[meta.figure] if record.has_result and has_map else message_figure
    return drawn(upright(record))


def draw_row(store: Store, row: Row) -> "Figure":
    """The figure of a row of a store, see `draw`."""
    image, entry = store.read_image(row), store.entry(row.label)
    return draw(store.read(row), image, store.class_names, entry)


def message_figure(record: Record) -> "Figure":
    """No explanation to show: what there is of the image, and why there is nothing else."""
    pictures = pictures_of(record)
    shapes = [picture.attribution.shape for picture in pictures]
    figure, rows, _ = panels.picture_grid(shapes, 2, text_height=0.3)
    title = f"Prediction (explained: {record.class_name})"
    if pictures[0].prediction is None:
        title = "No prediction stored"
    for (left, right), picture in zip(rows, pictures, strict=True):
        panels.show(left, picture.image, "No image stored" if record.image is None else "Image")
        segments.show_segmentation(right, picture.image, picture.prediction, record, title)
    segments.name_classes(rows[-1][1], pictures, record)
    panels.name_rows(rows, [picture.name for picture in pictures])
    panels.caption(figure, "", record.warning)
    return figure
