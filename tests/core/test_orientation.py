"""How volumes lie in the body: every order and direction of the axes."""

import itertools

import numpy as np
import pytest

from jaxseg_xai.core.orientation import orientation_of, turn_to

nibabel = pytest.importorskip("nibabel")
ALL = [
    "".join(letters)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*order)
]


def affine_of(letters, tilt=0.0):
    """An affine of three spacings whose axes run in the directions of the letters."""
    affine = np.zeros((4, 4))
    for axis, letter in enumerate(letters):
        body = next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[body, axis] = (1 if letter in "RAS" else -1) * (1.5, 2, 0.7)[axis]
    about = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine[:3, :3] = about @ affine[:3, :3]
    affine[:3, 3], affine[3, 3] = (5, -7, 30), 1
    return affine


@pytest.mark.parametrize("tilt", [0.0, 0.6])
def test_a_turned_volume_lies_as_asked_for_whatever_its_axes(tilt):
    assert len(ALL) == 48
    values = np.random.default_rng(0).random((3, 4, 5, 2))
    for letters in ALL:
        affine = affine_of(letters, tilt)
        assert orientation_of(affine, 3).replace(" ", "") == letters
        found = turn_to(affine, "IPL").apply(values)
        codes, wanted = (nibabel.orientations.axcodes2ornt(code) for code in (letters, "IPL"))
        step = nibabel.orientations.ornt_transform(codes, wanted)
        expected = nibabel.orientations.apply_orientation(values, step)
        np.testing.assert_array_equal(found, expected)


def test_two_axes_that_are_nearest_to_the_same_one_of_the_body():
    steps = np.array([[0.8, 0.7, 0], [0.1, 0.6, 0.1], [0, 0, 1]])
    affine = np.block([[steps, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])
    assert orientation_of(affine, 3) == "R A S"
    assert orientation_of(affine, 2) == "R A"
    assert orientation_of(None, 3) == ""
