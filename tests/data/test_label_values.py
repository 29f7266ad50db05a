"""Label maps whose values are no class numbers: mapped, ignored, in colours, grey masks in JPEG."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import IGNORED, known_pixels
from jaxseg_xai.data import LabelValues, open_dataset
from jaxseg_xai.data.checks import check_labels

NAMES = ("background", "cell", "vessel")
#: What every label map below means; 2 x 3 pixels, each 8 x 8 in the files.
TRUTH = np.array([[0, 1, 2], [2, 1, 0]])
RED, BLUE = (255, 0, 0), (0, 0, 255)


def large(values):
    return np.repeat(np.repeat(np.asarray(values), 8, axis=0), 8, axis=1)


@pytest.fixture
def write(tmp_path):
    """Write an image and its label map, and read the sample."""

    def write(name, labels, save=None, **values):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        grey = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24)
        if name.endswith(".nii"):
            for part, numbers in (("images", grey), ("labels", labels)):
                numbers = np.asarray(numbers)[::-1, ::-1].T[..., None].astype(np.int16)
                nibabel.save(nibabel.Nifti1Image(numbers, np.eye(4)), tmp_path / part / name)
        else:
            Image.fromarray(grey).save(tmp_path / "images" / "a.png")
            image = labels if isinstance(labels, Image.Image) else Image.fromarray(labels)
            image.save(tmp_path / "labels" / name, **(save or {}))
        given = LabelValues(**values)
        return open_dataset(tmp_path, class_names=NAMES, label_values=given)[0]

    return write


def reads(sample, truth=TRUTH):
    assert sample.labels_error is None, sample.labels_error
    assert sample.labels.dtype == np.int32
    np.testing.assert_array_equal(sample.labels, large(truth))


@pytest.mark.parametrize("name", ["a.png", "a.nii"])
def test_values_become_classes(write, name):
    values = large(np.array([0, 255, 128])[TRUTH]).astype(np.uint8)
    reads(write(name, values, map={255: 1, 128: 2}))


def test_values_may_change_places(write):
    reads(write("a.png", large(np.array([0, 2, 1])[TRUTH]).astype(np.uint8), map={1: 2, 2: 1}))


def test_ignored_pixels_are_neither_class_nor_background(write):
    values = large(TRUTH).astype(np.uint8)
    values[:8, :8] = 255
    sample = write("a.png", values, ignore=(255,))
    reads(sample, [[IGNORED, 1, 2], [2, 1, 0]])
    np.testing.assert_array_equal(known_pixels(sample.labels, 2), values != 255)
    everything = write("a.png", np.full_like(values, 255), ignore=(255,))
    assert (everything.labels == IGNORED).all()


def test_minus_one_in_a_file_is_no_class(write):
    values = large(TRUTH).astype(np.int16) - 1
    assert "label -1 is out of range" in str(write("a.nii", values).labels_error)
    reads(write("a.nii", values, ignore=(-1,)), TRUTH - 1)


@pytest.mark.parametrize("kind", ["colours", "palette"])
def test_colours_become_classes(write, kind):
    colours = large(np.array([(0, 0, 0), RED, BLUE], np.uint8)[TRUTH])
    image = Image.fromarray(colours)
    if kind == "palette":
        image = image.quantize(8)
    table = {"#000000": 0, "#FF0000": 1, "#0000ff": 2}
    reads(write("a.png", image, colours=table))
    sample = write("a.png", image, colours={"#000000": 0, "#ff0000": 1})
    assert "colour #0000ff is not named in labels.colours" in str(sample.labels_error)


def test_colours_may_be_ignored(write):
    colours = large(np.array([(0, 0, 0), RED, (255, 255, 255)], np.uint8)[TRUTH])
    table = {"#000000": 0, "#ff0000": 1, "#ffffff": 255}
    found = write("a.png", colours, colours=table, ignore=(255,))
    reads(found, np.array([0, 1, IGNORED])[TRUTH])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_masks_in_jpeg_where_asked_for(write, mode):
    white = large(255 * (TRUTH == 1)).astype(np.uint8)
    image = Image.fromarray(white).convert(mode)
    assert "set labels.threshold" in str(write("a.jpg", image).labels_error)
    sample = write("a.jpg", image, save={"quality": 30}, threshold=128.0)
    reads(sample, (TRUTH == 1).astype(int))


def test_a_threshold_takes_masks_of_one_bit(write):
    image = Image.fromarray(large(TRUTH == 1))
    reads(write("a.png", image, threshold=128.0), (TRUTH == 1).astype(int))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"map": {255: -1}}, "255 becomes -1; classes are counted from 0"),
        ({"colours": {"red": 1}}, "'red'; write red, green and blue as #rrggbb"),
        ({"colours": {"#ff0000": 1}, "threshold": 3.0}, "leave one out"),
    ],
)
def test_bad_values(values, words):
    with pytest.raises(ConfigError, match=words):
        LabelValues(**values)


def test_a_value_that_is_not_named_says_what_to_do(write):
    sample = write("a.png", large(200 * (TRUTH == 1)).astype(np.uint8), map={255: 1})
    assert "label 200 is out of range (0 to 2)" in str(sample.labels_error)
    assert "labels.map" in str(sample.labels_error)


def test_arrays_take_them_too():
    found = check_labels(255 * TRUTH[:, :2], "a", (2, 2), NAMES, LabelValues(map={255: 1, 510: 2}))
    np.testing.assert_array_equal(found, TRUTH[:, :2])
