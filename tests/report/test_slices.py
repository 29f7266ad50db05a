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
