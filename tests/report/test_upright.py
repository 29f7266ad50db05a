"""Volumes as a radiologist looks at them, and what a page is told of where their voxels are."""

import dataclasses

import numpy as np

from jaxseg_xai.report.case_page import Limits
from jaxseg_xai.report.slices import pictures_of
from jaxseg_xai.report.upright import upright
from jaxseg_xai.report.volume_page import num_columns, spacing_of, tiled, volume_json
from tests.core.test_orientation import ALL, affine_of
from tests.report.test_slices import SHAPE, record


def lying(letters):
    """A record whose only effect is at the right, front and top."""
    effect = np.zeros(SHAPE, np.float32)
    corner = tuple(n - 1 if one in "RAS" else 0 for n, one in zip(SHAPE, letters, strict=True))
    effect[corner] = 1
    found = record(attribution=effect, reference=None, region=None)
    image = dataclasses.replace(found.image, affine=affine_of(letters))
    return dataclasses.replace(found, image=image), corner


def test_the_right_front_and_top_are_where_they_usually_are():
    for letters in ALL:
        found, corner = lying(letters)
        turned = upright(found)
        assert turned.stored.attribution[0, 0, 0] == 1
        axial, coronal, sagittal = pictures_of(turned)
        assert [one.name.split()[0] for one in (axial, coronal, sagittal)] == [
            "axial",
            "coronal",
            "sagittal",
        ]
        np.testing.assert_array_equal(axial.image[0, 0], found.image.image[corner], err_msg=letters)
        # What is told of it leads back to the volume's own voxel, and its place.
        told = volume_json(turned, turned.stored.attribution.shape)
        size = turned.stored.attribution.shape
        own = tuple(one["size"] - 1 if one["back"] else 0 for one in told["own"])
        assert own == corner
        assert [size[one["axis"]] for one in told["own"]] == list(SHAPE)
        np.testing.assert_allclose(spacing_of(turned), told["spacing"])
        np.testing.assert_array_equal(told["affine"], affine_of(letters))
        assert told["edges"] == [["R", "A"], ["R", "S"], ["A", "S"]]


def test_without_a_place_in_the_body_it_stays_as_it_is():
    found = record()
    assert upright(found) is found
    told = volume_json(found, SHAPE)
    assert (told["affine"], told["edges"], told["spacing"]) == (None, [], [1.0] * 3)
    assert told["axes"] == ["depth", "height", "width"]


def test_voxels_that_are_close_are_reduced_first():
    limits = Limits(longest=100, voxels=20 * 64 * 64)
    assert limits.factors((20, 64, 64), (5, 1, 1)) == [1, 1, 1]
    assert limits.factors((20, 128, 128), (5, 1, 1)) == [1, 2, 2]
    assert limits.factors((1, 10_000, 10), (5, 1, 1)) == [1, 3, 1]  # of 4096 at most
    assert limits.factors((250, 30), (1, 1)) == [3, 3]


def test_slices_beside_each_other_are_all_there():
    volume = np.random.default_rng(0).integers(0, 255, (7, 3, 5, 3)).astype(np.uint8)
    for columns in (1, 2, 3, 7):
        sheet = tiled(volume, columns)
        for d in range(7):
            row, column = 3 * (d // columns), 5 * (d % columns)
            np.testing.assert_array_equal(sheet[row : row + 3, column : column + 5], volume[d])
    assert num_columns((64, 64, 64)) == 8
    assert num_columns((1, 9, 2)) == 1
