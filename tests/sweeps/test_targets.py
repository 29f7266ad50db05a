import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.inputs import Grid
from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import IGNORED, Sample, Status
from jaxseg_xai.sweeps.regions import Region, find_region, parse_region
from jaxseg_xai.sweeps.targets import as_planes, make_target

BOX = Region(kind="box", side=4)


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
    assert box_of(find_region(two_parts(), Region(kind="box", side=8))) == (21, 31, 8, 8)
    assert box_of(find_region(two_parts(), Region(kind="box", side=1))) == (25, 35, 1, 1)


@pytest.mark.parametrize("corner", [(0, 0), (0, 45), (35, 0), (35, 45)])
def test_the_box_is_moved_into_the_image(corner):
    mask = np.zeros((40, 50), bool)
    top, left = corner
    mask[top : top + 5, left : left + 5] = True
    expected = (0 if top == 0 else 20, 0 if left == 0 else 30, 20, 20)
    assert box_of(find_region(mask, Region(kind="box", side=20))) == expected


def test_the_border_of_the_image_is_outside_of_the_object():
    mask = np.zeros((30, 30), bool)
    mask[:11, :11] = True
    assert box_of(find_region(mask, Region(kind="box", side=1))) == (5, 5, 1, 1)


def test_the_component_is_the_largest():
    expected = two_parts()
    expected[:10] = False
    np.testing.assert_array_equal(find_region(two_parts(), Region(kind="component")), expected)


def test_a_corner_puts_the_box_anywhere_inside():
    assert box_of(find_region(two_parts(), Region(kind="box", side=8, corner=(32, 42)))) == (
        32,
        42,
        8,
        8,
    )
    for corner in ((33, 42), (32, 43), (-1, 0), (0, -1)):
        with pytest.raises(ConfigError, match=r"does not lie in the 40x50 image; change its side"):
            find_region(two_parts(), Region(kind="box", side=8, corner=corner))


def test_a_box_larger_than_the_image():
    wide = find_region(two_parts(), Region(kind="box", side=45))
    np.testing.assert_array_equal(np.argwhere(wide).min(0), (0, 5))
    np.testing.assert_array_equal(np.argwhere(wide).max(0), (39, 49))
    with pytest.raises(ConfigError, match="side 41 at"):
        find_region(two_parts(), Region(kind="box", side=41, corner=(0, 0)))
    with pytest.raises(ConfigError, match="side 0 at"):
        find_region(two_parts(), parse_region("box 0"))


def grid(shape=(40, 50), padded=None):
    return Grid(shape, shape, padded or shape)


def test_a_component_by_number_and_by_a_point():
    small = two_parts()
    small[10:] = False
    second = find_region(two_parts(), parse_region("component 2"))
    np.testing.assert_array_equal(second, small)
    np.testing.assert_array_equal(find_region(two_parts(), parse_region((3, 3))), small)
    with pytest.raises(ConfigError, match="no component 3; the class has 2 here"):
        find_region(two_parts(), parse_region("component 3"))
    with pytest.raises(ConfigError, match=r"no pixel at point \(0, 0\)"):
        find_region(two_parts(), parse_region("point 0 0"))
    with pytest.raises(ConfigError, match="does not lie in the 40x50 image"):
        find_region(two_parts(), parse_region((40, 0)))


def test_regions_of_a_volume():
    plane = np.zeros((12, 14, 16), bool)
    plane[2:9, 3:10, 4:11] = True
    plane[11, 13, 15] = True
    box = find_region(plane, parse_region("box 3"))
    np.testing.assert_array_equal(np.argwhere(box).min(0), (4, 5, 6))
    assert box.sum() == 27
    assert find_region(plane, parse_region("component")).sum() == 7**3
    assert find_region(plane, parse_region((11, 13, 15))).sum() == 1


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, np.ndarray.tolist])
def test_points_and_masks_are_arrays_or_lists(kind):
    mask = two_parts()
    given = parse_region(kind(mask))
    np.testing.assert_array_equal(find_region(mask, given), mask)
    assert given.identity() == parse_region(mask).identity()
    point = parse_region(kind(np.array([3, 4])))
    assert point == parse_region((np.int64(3), 4)) == parse_region("point 3 4")
    json.dumps(point.identity())


@pytest.mark.parametrize(
    "bad",
    [
        *("circle", "box a", "component 1 2", 3, (1,), "point 3", None, (1.5, 2.0), ("a", "b")),
        *(two_parts().astype(int), [[True], [True, False]], {"kind": "box"}),
    ],
)
def test_what_is_no_region(bad):
    with pytest.raises(ConfigError, match=r"^region is .*; use image, roi, box, box SIDE") as error:
        parse_region(bad)
    assert "\n" not in str(error.value)


def test_which_pixels_are_explained():
    prediction, labels = two_parts().astype(int), np.zeros((40, 50), int)
    labels[25:35, 35:45] = 1
    predicted, truth = prediction == 1, labels == 1

    def explained(reference):
        found = make_target(1, prediction, labels, grid(), region=Region(), reference=reference)
        assert found.region.all()
        return found.reference

    np.testing.assert_array_equal(explained("prediction"), predicted)
    np.testing.assert_array_equal(explained("truth"), truth)
    np.testing.assert_array_equal(explained("false_positives"), predicted & ~truth)
    np.testing.assert_array_equal(explained("false_negatives"), truth & ~predicted)
    with pytest.raises(ConfigError, match="target false_negatives needs ground truth"):
        make_target(1, prediction, None, grid(), region=BOX, reference="false_negatives")


def test_pixels_of_no_known_class_belong_to_no_region_of_ground_truth():
    prediction, labels = two_parts().astype(int), np.zeros((40, 50), int)
    labels[20:, 30:] = IGNORED
    labels[25:35, 35:45] = 1
    predicted, truth, known = prediction == 1, labels == 1, labels != IGNORED
    assert (predicted & ~known).any()

    def explained(reference, region="image"):
        region = parse_region(region)
        return make_target(1, prediction, labels, grid(), region=region, reference=reference)

    for reference, wanted in (("truth", truth), ("false_positives", predicted & ~truth & known)):
        found = explained(reference)
        np.testing.assert_array_equal(found.region, known)
        np.testing.assert_array_equal(found.segment, wanted)
    assert not (explained("false_positives", "component").region & ~known).any()
    # The same of classes that may overlap: planes know as much as the map they come from.
    model = OutputSpec(class_names=("object",), activation="sigmoid")
    sample = Sample(id="scan", image=np.zeros((40, 50, 1), np.float32), labels=labels)
    planes = as_planes(sample, model, 2)
    for reference in ("truth", "false_positives", "false_negatives"):
        of_planes = make_target(
            0, predicted[..., None], planes, grid(), region=Region(), reference=reference
        )
        of_map = explained(reference)
        np.testing.assert_array_equal(of_planes.region, of_map.region)
        np.testing.assert_array_equal(of_planes.segment, of_map.segment)
    # Nobody looks at the ground truth of a prediction.
    np.testing.assert_array_equal(explained("prediction").segment, predicted)


def test_nothing_to_explain():
    prediction = two_parts().astype(int)

    def status_of(class_index, region):
        return make_target(
            class_index, prediction, None, grid(), region=region, reference="prediction"
        )

    assert status_of(2, BOX) is Status.EMPTY_TARGET
    away = Region(kind="box", side=5, corner=(34, 0))
    assert status_of(1, away) is Status.EMPTY_TARGET
    mask = Region(kind="mask", mask=np.zeros((40, 50), bool))
    assert status_of(1, mask) is Status.EMPTY_REGION


def test_padding_belongs_to_no_region():
    prediction = np.ones((48, 64), int)
    for region in (Region(), parse_region("component")):
        found = make_target(
            1, prediction, None, grid(padded=(48, 64)), region=region, reference="prediction"
        )
        assert found.region.sum() == found.reference.sum() == 40 * 50
        assert found.region[:40, :50].all()
    mask = Region(kind="mask", mask=np.ones((40, 50), bool))
    found = make_target(
        1, prediction, None, grid(padded=(48, 64)), region=mask, reference="prediction"
    )
    assert found.region.sum() == 40 * 50


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize(
    "words", ["component", "component 2", "box 6", (4, 4), (25, 35), two_parts(), "image"]
)
def test_regions_count_the_pixels_of_the_sample_whatever_the_model_sees(times, words):
    """A model that sees every pixel several times, or one of several."""
    region = parse_region(words)
    plane = two_parts()
    wanted = find_region(plane, region)
    larger = tuple(times * n for n in plane.shape)
    repeated = plane.repeat(times, 0).repeat(times, 1)
    found = make_target(
        1,
        repeated.astype(int),
        None,
        Grid(plane.shape, larger, larger),
        region=region,
        reference="prediction",
    )
    np.testing.assert_array_equal(found.region, wanted.repeat(times, 0).repeat(times, 1))
    np.testing.assert_array_equal(found.reference, repeated)
    # The other way round: the model sees the small image of a large sample.
    mask = region.kind == "mask"
    scaled = Region(kind="mask", mask=repeated) if mask else region
    point = tuple(times * n + times // 2 for n in words) if isinstance(words, tuple) else None
    side = times * region.side
    scaled = dataclasses.replace(scaled, point=point, side=side)
    small = make_target(
        1,
        plane.astype(int),
        repeated.astype(int),
        Grid(larger, plane.shape, plane.shape),
        region=scaled,
        reference="truth",
    )
    np.testing.assert_array_equal(small.region & plane, wanted & plane)


def test_a_region_that_is_lost_by_resizing():
    prediction, mask = np.ones((4, 4), int), np.zeros((16, 16), bool)
    mask[0, 0] = True
    region = Region(kind="mask", mask=mask)
    given = Grid((16, 16), (4, 4), (4, 4))
    with pytest.raises(ConfigError, match="is left when the image is resized to 4x4; choose a la"):
        make_target(1, prediction, None, given, region=region, reference="prediction")


def test_labels_take_the_form_of_the_predictions():
    def planes_of(labels, output):
        sample = Sample(id="scan", image=np.zeros((2, 2, 1), np.float32), labels=labels)
        return as_planes(sample, output, 2)

    overlapping = OutputSpec(class_names=("whole", "core"), activation="sigmoid")
    labels = np.array([[0, 1], [2, 2]])
    planes = planes_of(labels, overlapping)
    with pytest.raises(DataError, match=r"labels \(2, 1\) for an image \(2, 2\); give one label"):
        planes_of(labels[:, :1], overlapping)
    np.testing.assert_array_equal(planes[..., 1], labels == 2)
    np.testing.assert_array_equal(planes_of(planes, overlapping), planes)
    # Where nobody knows the class, it is known of none.
    unknown = planes_of(np.array([[IGNORED, 1], [2, 2]]), overlapping)
    np.testing.assert_array_equal(unknown[0, 0], [IGNORED, IGNORED])
    np.testing.assert_array_equal(unknown.reshape(-1, 2)[1:], planes.reshape(-1, 2)[1:])
    np.testing.assert_array_equal(planes_of(unknown, overlapping), unknown)
    exclusive = OutputSpec(class_names=("background", "whole"))
    assert planes_of(labels // 2, exclusive) is not None
    for wrong, output, words in (
        (labels, exclusive, r"scan: label 2 is out of range \(0 to 1\)"),
        (labels + 1, overlapping, r"scan: label 3 is out of range \(0 to 2\)"),
        (labels - 2, overlapping, r"scan: label -2 is out of range"),
        (planes, exclusive, "scan: .* give a label map"),
        (planes, OutputSpec(class_names=("a", "b", "c"), activation="sigmoid"), "2 planes, the mo"),
    ):
        with pytest.raises(DataError, match=words):
            planes_of(wrong, output)
