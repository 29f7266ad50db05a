import numpy as np
import pytest
from scipy import ndimage

from jaxseg_xai.data import open_dataset
from jaxseg_xai.data.sources.shapes import SHAPES, ShapesDataset
from jaxseg_xai.data.sources.triangle import TriangleDataset


@pytest.mark.parametrize("size", [32, 64, 128])
def test_one_object_wholly_inside(size):
    dataset = ShapesDataset("test", size=size, num=15)
    corners = set()
    for index in range(len(dataset)):
        image, labels, info = dataset.make(index)
        assert image.dtype == labels.dtype == np.uint8
        assert set(np.unique(labels)) == {0, 1}
        assert ndimage.label(labels, np.ones((3, 3)))[1] == 1
        assert info.vertices.min() >= 0
        assert info.vertices.max() <= size - 1
        y, x = info.vertices.T
        area = abs(np.sum(y * np.roll(x, -1) - x * np.roll(y, -1))) / 2
        # Pixels on the outline are in.
        assert 0.9 * area <= labels.sum() <= 1.25 * area + 2 * size
        corners.add(len(info.vertices))
    assert corners == {len(shape) for shape in SHAPES.values()} == {4, 10, 12}


def test_as_a_data_set():
    dataset = open_dataset("shapes", "validation", size=32, num=3)
    assert dataset.class_names == TriangleDataset().class_names
    assert dataset.ids == tuple(f"shapes-validation-0000{i}" for i in range(3))
    sample = dataset[1]
    assert sample.image.shape == (32, 32, 3)
    assert 0 <= sample.image.min() < sample.image.max() <= 1
    np.testing.assert_array_equal(sample.image, ShapesDataset("validation", size=32)[1].image)
    with pytest.raises(IndexError):
        dataset[3]


def test_shares_no_scene_with_triangle():
    shapes, triangles = ShapesDataset(size=32, num=5), TriangleDataset(size=32, num=5)
    for index in range(5):
        assert np.abs(shapes[index].image - triangles[index].image).mean() > 0.05


def test_a_square_does_not_stand_upright():
    for index in range(30):
        _, _, info = ShapesDataset(size=64, num=30).make(index)
        if len(info.vertices) == 4:
            side = info.vertices[1] - info.vertices[0]
            assert np.abs(side).min() > 0.2 * np.abs(side).max()
