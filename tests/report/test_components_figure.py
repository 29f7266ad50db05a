import io

import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.parts.table import ComponentTable
from jaxseg_xai.report import panels
from jaxseg_xai.report.components import components_figure

SITES = [("encoder/0/conv1", "layer", 3), ("head", "layer", 2), ("encoder/0 -> head", "skip", 3)]


def table(status=Status.OK, exact=True):
    outcomes = [
        np.array([[90.0, 80], [99, 98], [50, 60], [20, 10]]),
        np.array([[95.0, 97], [98, 99], [98, 98]]),
        np.array([[60.0, 70]]),
    ]
    outcomes = outcomes if exact else [found[-1:] for found in outcomes]
    return ComponentTable.of_sites(
        SITES,
        statuses=np.array([status]),
        base=np.array([97.0]),
        outcomes=[outcomes],
        first_order=[[np.array([-3.0, 1, -9]), np.array([0.0, 1]), np.array([-4.0, 0, 0])]],
    )


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("first_order", [True, False])
def test_every_part_has_a_bar_and_every_layer_a_strip(exact, first_order):
    figure = components_figure(table(exact=exact), "A $ title", first_order=first_order)
    bars, strips = figure.axes[:2]
    assert [label.get_text() for label in bars.get_yticklabels()] == [name for name, *_ in SITES]
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == ([-11, 1, -4] if first_order else [-82, 1, -32])
    assert [image.get_array().shape[1] for image in strips.images] == [3, 2]
    assert ("Channels: first-order estimates" in words(figure)) == (not exact and not first_order)
    assert "outcome without it: 97.0 points" in words(figure)
    with Image.open(io.BytesIO(panels.to_png(figure))) as picture:
        assert picture.width > 600


def test_no_usable_image_is_said():
    figure = components_figure(table(status=Status.NON_FINITE), "title")
    assert "No image could be used" in words(figure)
    panels.to_png(figure)
