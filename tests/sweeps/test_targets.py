import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.sweeps.config import RoiConfig
from jaxseg_xai.sweeps.targets import find_region, make_target


def two_parts(shape=(40, 50)):
    """A small square and a larger one, of sides 5 and 11."""
    mask = np.zeros(shape, bool)
    mask[2:7, 2:7] = True
    mask[20:31, 30:41] = True
    return mask


def box_of(region):
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    assert region.sum() == len(rows) * len(columns)
    return int(rows[0]), int(columns[0]), len(rows), len(columns)


def test_the_box_is_centred_in_the_largest_component():
    assert box_of(find_region(two_parts(), RoiConfig(side=8))) == (21, 31, 8, 8)
    assert box_of(find_region(two_parts(), RoiConfig(side=1))) == (25, 35, 1, 1)


@pytest.mark.parametrize("corner", [(0, 0), (0, 45), (35, 0), (35, 45)])
def test_the_box_is_moved_into_the_image(corner):
    mask = np.zeros((40, 50), bool)
    top, left = corner
    mask[top : top + 5, left : left + 5] = True
    expected = (0 if top == 0 else 20, 0 if left == 0 else 30, 20, 20)
    assert box_of(find_region(mask, RoiConfig(side=20))) == expected


def test_the_border_of_the_image_is_outside_of_the_object():
    mask = np.zeros((30, 30), bool)
    mask[:11, :11] = True
    assert box_of(find_region(mask, RoiConfig(side=1))) == (5, 5, 1, 1)


def test_the_component_is_the_largest():
    expected = two_parts()
    expected[:10] = False
    np.testing.assert_array_equal(find_region(two_parts(), RoiConfig(kind="component")), expected)


def test_a_corner_puts_the_box_anywhere_inside():
    assert box_of(find_region(two_parts(), RoiConfig(side=8, corner=(32, 42)))) == (32, 42, 8, 8)
    for corner in ((33, 42), (32, 43), (-1, 0), (0, -1)):
        with pytest.raises(ConfigError, match=r"does not lie in the 40x50 image; change roi\.side"):
            find_region(two_parts(), RoiConfig(side=8, corner=corner))


def test_a_box_larger_than_the_image():
    with pytest.raises(ConfigError, match="side 41 at"):
        find_region(two_parts(), RoiConfig(side=41))


def test_what_each_explainer_explains():
    prediction, labels = two_parts().astype(int), np.zeros((40, 50), int)
    labels[10:20, 10:20] = 1
    roi = RoiConfig(side=4)
    misure = make_target("misure", 1, prediction, labels, roi)
    np.testing.assert_array_equal(misure.reference, prediction == 1)
    assert misure.region.all()
    ate = make_target("ate", 1, prediction, labels, roi)
    np.testing.assert_array_equal(ate.reference, labels == 1)
    assert not (ate.region & (labels == 0)).any()
    of_prediction = RoiConfig(side=4, reference="prediction")
    for given, how in ((None, roi), (labels, of_prediction)):
        ate = make_target("ate", 1, prediction, given, how)
        np.testing.assert_array_equal(ate.reference, prediction == 1)


def test_nothing_to_explain():
    prediction = two_parts().astype(int)
    assert make_target("misure", 2, prediction, None, RoiConfig()) is None
    assert make_target("ate", 2, prediction, None, RoiConfig()) is None
    away = RoiConfig(side=5, corner=(34, 0))
    assert make_target("ate", 1, prediction, None, away) is None
