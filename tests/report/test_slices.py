import dataclasses

import numpy as np
import pytest

from jaxseg_xai.report.record import Record, meta_of
from jaxseg_xai.report.slices import pictures_of
from tests.report.demo_store import build, entry

SHAPE = (8, 12, 10)


def record(**changes):
    store = build(SHAPE, ("heat",), evil="im0")
    row = store.rows("heat")[0]
    stored = dataclasses.replace(store.read(row), **changes)
    known = entry("heat")
    return Record(
        stored=stored,
        image=store.read_image(row),
        class_names=store.class_names,
        entry=known,
        meta=meta_of(known),
    )


def positions(found):
    return [int(picture.name.split()[1]) - 1 for picture in pictures_of(found)]


def spot(*place):
    one = np.zeros(SHAPE, bool)
    one[place] = True
    return one


def test_every_array_is_cut_at_the_same_place():
    planes = np.random.default_rng(0).uniform(size=(*SHAPE, 3)) > 0.5
    values = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    everywhere = np.ones(SHAPE, bool)
    found = record(
        attribution=values,
        reference=spot(5, 3, 7),
        region=everywhere,
        maps={"prediction": planes, "further": values},
    )
    depth, height, width = pictures_of(found)
    np.testing.assert_array_equal(depth.attribution, values[5])
    np.testing.assert_array_equal(height.prediction, planes[:, 3])
    np.testing.assert_array_equal(width.maps["further"], values[:, :, 7])
    np.testing.assert_array_equal(width.reference, spot(5, 3, 7)[:, :, 7])
    np.testing.assert_array_equal(width.image, found.image.image[:, :, 7])
    assert [picture.name for picture in (depth, height, width)] == [
        "depth 6 of 8",
        "height 4 of 12",
        "width 8 of 10",
    ]


def test_the_planes_meet_in_a_pixel_of_what_is_explained():
    # A ring's centre is not in the ring; what lies outside of the region does not count.
    ring = np.zeros(SHAPE, bool)
    ring[4, 2:9, 2:9] = True
    ring[4, 3:8, 3:8] = False
    region = np.ones(SHAPE, bool)
    region[0] = False
    place = tuple(positions(record(reference=ring | spot(0, 0, 0), region=region)))
    assert ring[place]


@pytest.mark.parametrize("sign", [1, -1])
def test_without_it_they_meet_where_the_attribution_is(sign):
    nothing = np.zeros(SHAPE, bool)
    attribution = sign * (spot(1, 9, 2) | spot(3, 11, 4)).astype(np.float32)
    assert positions(record(reference=nothing, attribution=attribution)) == [2, 10, 3]
    assert positions(record(reference=nothing, attribution=0 * attribution)) == [4, 6, 5]
    assert positions(record(reference=None, region=None, attribution=None)) == [4, 6, 5]


def large(**changes):
    size = (1200, 1300)
    values = {
        "attribution": np.zeros(size, np.float32),
        "region": np.ones(size, bool),
        "reference": np.zeros(size, bool),
        "maps": {},
    }
    found = record(**(values | changes))
    return dataclasses.replace(found, image=None)


def test_of_a_large_image_the_part_that_matters_is_drawn():
    effects = np.zeros((1200, 1300), np.float32)
    effects[100:110, 10:30] = -1
    region = np.zeros((1200, 1300), bool)
    region[150:160, 40:50] = True
    (found,) = pictures_of(large(attribution=effects, region=region))
    assert found.name == "rows 69 to 192, columns 1 to 82"
    np.testing.assert_array_equal(found.attribution, effects[68:192, :82])
    np.testing.assert_array_equal(found.region, region[68:192, :82])
    assert found.image.shape == (124, 82, 3)
    # Everything as region, and no effect: what is explained.
    (found,) = pictures_of(large(reference=region))
    assert found.name == "rows 119 to 192, columns 9 to 82"


def test_of_a_large_image_with_something_everywhere_all_is_drawn():
    effects = np.zeros((1200, 1300), np.float32)
    effects[[0, -1], [5, 900]] = 1
    for found in (large(attribution=effects), large()):
        (picture,) = pictures_of(found)
        assert picture.name == ""
        assert picture.attribution.shape == (1200, 1300)
