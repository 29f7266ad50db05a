import numpy as np
import pytest

from jaxseg_xai.core.display import to_display
from jaxseg_xai.report import overlays


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 1)])
def test_display_of_any_number_of_channels(channels, shown):
    image = np.linspace(0, 1, 12 * channels, dtype=np.float32).reshape(3, 4, channels)
    display = to_display(image)
    assert display.dtype == np.uint8
    assert display.shape == (3, 4, shown)
    assert display[0, 0, 0] == 0


def test_display_keeps_unit_range_and_stretches_others():
    image = np.full((2, 2, 1), 0.5, np.float32)
    assert (to_display(image) == 128).all()
    wide = np.array([-3.0, 5.0, 1.0, np.nan], np.float32).reshape(2, 2, 1)
    assert to_display(wide).ravel().tolist() == [0, 255, 128, 0]
    assert (to_display(np.full((2, 2, 3), np.nan)) == 0).all()
    assert (to_display(np.full((2, 2, 1), 7.0)) == 0).all()


def test_explained_class_is_painted_more_strongly():
    image = np.zeros((1, 3, 3), np.uint8)
    painted = overlays.colour_labels(image, np.array([[0, 1, 8]]), class_index=1)
    assert (painted[0, 0] == 0).all()
    # Class 8 has the colour of class 1 again, at half its strength.
    np.testing.assert_allclose(painted[0, 1] / 2, painted[0, 2], atol=1)
    assert (image == 0).all()


def test_classes_have_different_colours():
    colours = {tuple(overlays.class_colour(index)) for index in range(8)}
    assert len(colours) == 8
    # Where classes overlap there is no background among them.
    overlapping = [overlays.class_colour(index, overlapping=True) for index in range(7)]
    wanted = [overlays.class_colour(index) for index in range(1, 8)]
    np.testing.assert_array_equal(overlapping, wanted)


def test_ends_of_a_scale():
    values = np.array([0.0, np.nan, -2.0, 1.0, *[1.0] * 200, 1e6])
    assert overlays.effect_limit(values) == 1
    assert overlays.effect_limit(np.zeros(3)) == 1
