"""Triangle and Triangle-Cue: determinism, splits, and what the marker means."""

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.data.sources.triangle import (
    TriangleCueDataset,
    TriangleDataset,
    causal_mask,
    make_triangle,
)


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("cue", [False, True])
def test_depends_on_its_arguments_only(size, cue):
    first = make_triangle(7, size=size, seed=3, cue=cue)
    make_triangle(8, size=size, seed=3, cue=cue)
    again = make_triangle(7, size=size, seed=3, cue=cue)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[2].marker == again[2].marker
    assert first[0].dtype == first[1].dtype == np.uint8
    assert first[0].shape == (size, size, 3)
    assert first[1].shape == (size, size)


def test_index_and_seed_change_the_image():
    images = [make_triangle(index, size=32, seed=seed)[0] for index in (0, 1) for seed in (0, 1)]
    assert len({image.tobytes() for image in images}) == 4


def test_triangle_area_matches_its_corners():
    for index in range(10):
        _, labels, info = make_triangle(index)
        (ay, ax), (by, bx), (cy, cx) = info.vertices
        area = abs((by - ay) * (cx - ax) - (bx - ax) * (cy - ay)) / 2
        assert labels.sum() == pytest.approx(area, rel=0.05, abs=10)
        assert set(np.unique(labels)) == {0, 1}
        assert info.marker is None


@pytest.mark.parametrize("size", [32, 64, 128])
def test_class_says_whether_there_is_a_marker(size):
    markers = 0
    for index in range(60):
        image, labels, info = make_triangle(index, size=size, cue=True)
        expected = 2 if info.marker is None else 1
        assert set(np.unique(labels)) == {0, expected}
        mask = causal_mask(labels, info)
        if info.marker is None:
            np.testing.assert_array_equal(mask, labels > 0)
            continue
        markers += 1
        y0, x0, y1, x1 = info.marker
        assert 0 <= y0 < y1 <= size
        assert 0 <= x0 < x1 <= size
        box = image[y0:y1, x0:x1]
        assert (box[0] == 0).all()
        assert (box[len(box) // 2, len(box) // 2] == 255).all()
        # Not touching: the box and one more pixel around it hold no triangle.
        assert not labels[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1].any()
        assert mask.sum() == (labels > 0).sum() + (y1 - y0) * (x1 - x0)
    assert 15 <= markers <= 45


def test_counterfactual_pair_differs_in_the_marker_only():
    with_marker, cued, info = make_triangle(5, size=64, cue=True, marker=True)
    without, uncued, absent = make_triangle(5, size=64, cue=True, marker=False)
    plain, labels, _ = make_triangle(5, size=64)
    assert absent.marker is None
    np.testing.assert_array_equal(without, plain)
    np.testing.assert_array_equal(cued, labels)
    np.testing.assert_array_equal(uncued, 2 * labels)
    y0, x0, y1, x1 = info.marker
    outside = np.ones((64, 64), bool)
    outside[y0:y1, x0:x1] = False
    np.testing.assert_array_equal(with_marker[outside], without[outside])
    assert (with_marker[~outside] != without[~outside]).any()


def test_dataset_items():
    dataset = TriangleCueDataset("test", size=64, num=5)
    assert len(dataset) == 5
    assert dataset.class_names == ("background", "cued triangle", "uncued triangle")
    sample = dataset[3]
    assert sample.id == dataset.ids[3] == "triangle-cue-test-00003"
    assert sample.image.dtype == np.float32
    assert sample.labels is not None
    assert sample.labels.dtype == np.int32
    image, labels, info = dataset.make(3)
    np.testing.assert_array_equal(np.rint(sample.image * 255), image)
    np.testing.assert_array_equal(sample.labels, labels)
    np.testing.assert_array_equal(dataset.causal_mask(3), causal_mask(labels, info))
    np.testing.assert_array_equal(sample.cause, causal_mask(labels, info) & (labels == 0))
    assert any(dataset[i].cause.any() for i in range(5))
    assert TriangleDataset().ids[12] == "triangle-test-00012"
    assert TriangleDataset(num=1)[0].cause is None
    with pytest.raises(IndexError):
        dataset[5]


def test_splits_and_seeds_share_no_image():
    images = [
        TriangleDataset(split, size=32, num=4, seed=seed)[index].image.tobytes()
        for split in ("train", "validation", "test")
        for seed in (0, 1)
        for index in range(4)
    ]
    assert len(set(images)) == len(images)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="size >= 32"):
        make_triangle(0, size=16)
    with pytest.raises(ConfigError, match="cue=True"):
        make_triangle(0, marker=True)
    with pytest.raises(ConfigError, match="train, validation, test"):
        TriangleDataset("dev")
    with pytest.raises(ConfigError, match="num=0"):
        TriangleDataset(num=0)
