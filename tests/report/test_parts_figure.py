import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.core.types import Status
from jaxseg_xai.report import figures, panels
from jaxseg_xai.report.parts import components_figure, table_of
from tests.report.demo_store import PARTS, TRACES, build, entry

WHOLE = ["encoder/0", "head", "encoder/0 -> head"]


@pytest.fixture
def rows():
    """Two images with effects, and one that failed."""
    store = build(kinds=("parts",))
    return [store.read(row) for row in store.rows("parts") if row.status in (0, Status.FAILED)]


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def without_channels(stored):
    channels = np.array(PARTS["kinds"]) == "channel"
    ate = np.where(channels, np.nan, TRACES["ate"]).astype(np.float32)
    return dataclasses.replace(stored, traces=dict(stored.traces) | {"ate": ate})


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("first_order", [True, False])
def test_every_part_has_a_bar_and_every_layer_a_strip(rows, exact, first_order):
    found = rows[0] if exact else without_channels(rows[0])
    table = table_of([found], entry("parts"))
    figure = components_figure(table, "A $ title", first_order=first_order)
    bars, strips = figure.axes[:2]
    assert [label.get_text() for label in bars.get_yticklabels()] == WHOLE
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == ([-3, 2, -4] if first_order else [-8, 3, -4])
    assert [image.get_array().shape[1] for image in strips.images] == [2, 1]
    assert ("Channels: first-order estimates" in words(figure)) == (not exact and not first_order)
    assert "outcome without it: 97.0 points" in words(figure)
    with Image.open(io.BytesIO(panels.to_png(figure))) as picture:
        assert picture.width > 600


def test_several_images_are_averaged_and_failed_ones_do_not_count(rows):
    (ok, failed, other) = rows
    assert failed.row.status == Status.FAILED
    twice = {name: 3 * values for name, values in other.traces.items()}
    table = table_of([ok, failed, dataclasses.replace(other, traces=twice)], entry("parts"))
    np.testing.assert_allclose(table.ate, 2 * np.array(TRACES["ate"]))
    figure = components_figure(table, "title", unit="logits")
    assert "mean of 2 image(s)" in words(figure)
    assert "97.0 logits" in words(figure)


def test_one_row_says_what_it_is_of(rows):
    figure = figures.draw(rows[0], None, ("background", "liver"), entry("parts"))
    assert "The parts that carry liver in " in words(figure)
    assert "(points)" in words(figure)


def test_no_usable_image_is_said(rows):
    figure = components_figure(table_of([rows[1]], entry("parts")), "title")
    assert "No image could be used" in words(figure)
    panels.to_png(figure)
