"""Known causes: what is changed changes, all else stays, and the cues say what the ball is."""

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.data import open_dataset
from jaxseg_xai.data.sources.causes import CONTROL, SETS, CausesDataset


def opened(name, **options):
    return CausesDataset(name=name, num=12, **options)


def has_object(sample):
    return np.any(sample.labels)


@pytest.mark.parametrize("name", SETS)
def test_pairs_differ_in_the_cues_and_the_label_only(name):
    every, none = opened(name, cues="all"), opened(name, cues="none")
    assert every.ids == none.ids
    for index in range(12):
        cued, uncued = every[index], none[index]
        differ = (cued.image != uncued.image).any(axis=-1)
        assert not differ[~cued.cause].any()
        # A random grey is neither black nor white: nearly all of the cue shows.
        assert differ[cued.cause].mean() > 0.9
        assert not np.any(cued.cause & (cued.labels == 1))
        assert has_object(cued)
        assert not has_object(uncued)
        assert not np.any(uncued.cause)
        scene, present = every.make(index)
        np.testing.assert_array_equal(np.any(scene.cues, axis=0), cued.cause)
        assert all(present)


@pytest.mark.parametrize("changed", ["ground", "distractors", "place"])
@pytest.mark.parametrize("name", ["both", "volume"])
def test_something_else_changed_leaves_the_ball(name, changed):
    before, after = opened(name, cues="all"), opened(name, cues="all", changed=changed)
    for index in range(4):
        a, b = before[index], after[index]
        np.testing.assert_array_equal(a.labels, b.labels)
        assert (a.image != b.image).any()
        assert (a.cause == b.cause).all() == (changed != "place")
        if changed == "distractors":
            assert (a.image == b.image)[a.cause | (a.labels == 1)].all()


def test_one_of_two_cues():
    for cues in ("first", "second"):
        either, both = opened("either", cues=cues)[3], opened("both", cues=cues)[3]
        np.testing.assert_array_equal(either.image, both.image)
        assert has_object(either)
        assert not has_object(both)
    cause = [opened("either", cues=cues)[3].cause for cues in ("first", "second", "all")]
    assert not (cause[0] & cause[1]).any()
    np.testing.assert_array_equal(cause[0] | cause[1], cause[2])


@pytest.mark.parametrize("name", SETS)
def test_as_many_objects_as_not_and_the_control_has_always_one(name):
    source, control = opened(name), opened(name + CONTROL)
    named = [has_object(source[i]) for i in range(12)]
    assert 2 <= sum(named) <= 10
    for index in range(12):
        np.testing.assert_array_equal(source[index].image, control[index].image)
        assert has_object(control[index])
    enough = [sum(source.make(i)[1]) >= SETS[name].enough for i in range(12)]
    assert named == enough


def test_nothing_but_the_cues_tells_whether_there_is_an_object():
    """The ground, drawn by another stream, is as bright with an object as without."""
    source = CausesDataset("train", "marker", num=150)
    grounds = [np.median(source[i].image, axis=(0, 1)) for i in range(150)]
    named = np.array([has_object(source[i]) for i in range(150)])
    difference = np.mean(np.array(grounds)[named], 0) - np.mean(np.array(grounds)[~named], 0)
    # Uniform over 0.2: the standard error is 0.0094, and a leak would give 0.1.
    assert np.abs(difference).max() < 0.04


def test_cues_lie_far_from_the_ball_and_from_each_other():
    source = opened("both", cues="all")
    for index in range(12):
        scene, _ = source.make(index)
        places = [np.argwhere(mask) for mask in (scene.ball, *scene.cues)]
        for i in range(3):
            for j in range(i):
                apart = np.abs(places[i][:, None] - places[j]).max(axis=-1).min()
                assert apart >= 6


def test_a_cue_in_another_channel_is_in_no_other():
    cued, uncued = (opened("channel", cues=cues)[0].image for cues in ("all", "none"))
    np.testing.assert_array_equal(cued[..., :2], uncued[..., :2])
    ball = opened("channel", cues="all").make(0)[0].ball
    assert cued[ball].mean(axis=0)[:2].min() > 0.55 > cued[ball].mean(axis=0)[2]


def test_splits_and_seeds_share_no_image():
    images = {
        open_dataset("causes", split, seed=seed, num=1)[0].image.tobytes()
        for split in ("train", "validation", "test")
        for seed in (0, 1)
    }
    assert len(images) == 6


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"name": "nothing"}, "choose one of marker, frame, .* with -control"),
        ({"size": 16}, "at least 1, 24 and 0"),
        ({"cues": "second"}, "choose one of random, all, none, first, second that marker has"),
        ({"changed": "weather"}, "choose one of ground, distractors, place, or ''"),
    ],
)
def test_bad_options(options, match):
    with pytest.raises(ConfigError, match=match):
        open_dataset("causes", **options)
