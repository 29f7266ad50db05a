"""Arrays and single files as a source: what a person hands over in Python."""

import jax.numpy as jnp
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Sample
from jaxseg_xai.data import MemorySource, as_source, open_dataset
from jaxseg_xai.data.sources.folder import FolderDataset
from tests.support import labels_fail

GRAY = np.arange(0, 240, 2, dtype=np.uint8).reshape(10, 12)
COLORS = np.stack([GRAY, GRAY[::-1], GRAY // 2], axis=-1)
TRUTH = (GRAY > 100).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_values_are_scaled_as_the_folder_does(tmp_path):
    file = save(tmp_path / "a.png", GRAY)
    from_file = FolderDataset(tmp_path)[0].image
    source = MemorySource([GRAY, GRAY.astype(np.uint16) * 257, GRAY / 255.0, file])
    for index in range(len(source)):
        np.testing.assert_allclose(source[index].image, from_file, rtol=1e-6)
    assert source.ids[:3] == ("image-00000", "image-00001", "image-00002")
    # Floats stay what they are, measurements too.
    np.testing.assert_allclose(
        as_source(GRAY * 10.0 - 1000)[0].image[..., 0], GRAY * 10.0 - 1000, rtol=1e-6
    )


@pytest.mark.parametrize("convert", [jnp.asarray, torch.from_numpy, Image.fromarray, np.asarray])
def test_anything_like_an_array(convert):
    image = as_source(convert(COLORS))[0].image
    np.testing.assert_allclose(image, COLORS / 255, rtol=1e-6)


def test_one_image_or_several():
    assert len(as_source(GRAY)) == len(as_source(COLORS)) == 1
    several = as_source(np.stack([COLORS, COLORS[::-1]]), np.stack([TRUTH, TRUTH[::-1]]))
    assert len(several) == 2
    np.testing.assert_array_equal(several[1].labels, TRUTH[::-1])
    assert len(as_source([GRAY, COLORS])) == 2
    assert as_source(COLORS, TRUTH)[0].labels.dtype == np.int32
    source = open_dataset("triangle", size=32, num=2)
    assert as_source(source) is source


def test_volumes():
    volumes = np.random.default_rng(0).random((2, 4, 5, 6, 1))
    source = as_source(volumes, volumes[..., 0] > 0.5, rank=3)
    assert source[1].image.shape == (4, 5, 6, 1)
    assert source[1].labels.shape == (4, 5, 6)
    assert len(as_source(volumes[0, ..., 0], rank=3)) == 1


def test_a_sample_keeps_what_it_says_of_itself():
    given = Sample(id="scan 7", image=np.arange(60.0).reshape(3, 4, 5, 1), spacing=(2.0, 1.0, 1.0))
    truth = np.ones((3, 4, 5), np.int32)
    for images, labels in ((given, truth), ([given, np.eye(4)[None]], [truth, None])):
        source = as_source(images, labels, rank=3)
        assert source.ids[0] == "scan 7"
        assert source[0].spacing == (2.0, 1.0, 1.0)
        np.testing.assert_array_equal(source[0].image, given.image)
        np.testing.assert_array_equal(source[0].labels, truth)
    assert source.ids[1] == "image-00001"
    with pytest.raises(DataError, match="scan 7: an image of shape"):
        as_source(given)[0]


def test_planes_of_classes_that_overlap():
    planes = np.stack([GRAY > 50, GRAY > 100, GRAY > 150], axis=-1)
    names = ("whole", "core", "rim")
    labels = as_source(GRAY, planes, class_names=names)[0].labels
    np.testing.assert_array_equal(labels, planes)
    single = as_source(GRAY, planes[..., :1], class_names=("whole",))[0].labels
    assert single.dtype == bool
    fewer = as_source(GRAY, planes, class_names=names[:2])[0]
    labels_fail(fewer, "3 planes of labels for 2 classes")
    numbers = as_source(GRAY, planes.astype(np.uint8), class_names=names)[0]
    labels_fail(numbers, "one plane of bool a class")


def test_files(tmp_path):
    one, two = save(tmp_path / "x" / "a.png", GRAY), save(tmp_path / "y" / "a.png", COLORS)
    truth = save(tmp_path / "truth.png", TRUTH)
    assert as_source(one).ids == ("a",)
    np.testing.assert_array_equal(as_source(str(one), truth)[0].labels, TRUTH)
    source = as_source([one, two, COLORS], [None, TRUTH, TRUTH])
    assert source.ids == (str(one), str(two), "image-00002")  # two files are called a
    assert source[0].labels is None
    np.testing.assert_array_equal(source[1].labels, TRUTH)
    assert isinstance(as_source(tmp_path / "x"), FolderDataset)


def test_slices_of_a_volume_file(tmp_path):
    values = np.arange(240, dtype=np.float32).reshape(6, 8, 5)
    path, truth = tmp_path / "head.nii.gz", tmp_path / "truth.nii"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    nibabel.save(nibabel.Nifti1Image((values > 100).astype(np.int16), np.eye(4)), truth)
    source = as_source(path, truth)
    assert source.ids == tuple(f"head#{level:03d}" for level in range(5))
    expected = FolderDataset(tmp_path)
    for index in range(5):
        np.testing.assert_array_equal(source[index].image, expected[index].image)
        assert source[index].labels.shape == (8, 6)
        assert source[index].group == expected[index].group == "head"
    assert as_source(path, truth, rank=3)[0].labels.shape == (5, 8, 6)
    labels_fail(as_source(path, TRUTH)[0], "must be a NIfTI file")


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ("nowhere.png", {}, r"nowhere.png: no such file or folder; check the path"),
        ([], {}, "no image given"),
        ([GRAY], {"labels": [TRUTH, TRUTH]}, "2 labels for 1 images"),
        (np.zeros((2, 3, 4, 5, 1)), {}, r"takes \[H, W\], \[H, W, C\] or \[N, H, W, C\]"),
        (GRAY, {"rank": 3}, r"takes \[D, H, W\]"),
    ],
)
def test_what_cannot_be_a_source(images, options, message):
    with pytest.raises(DataError, match=message):
        as_source(images, **options)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (GRAY.astype(np.int64), {}, "image-00000: int64 has no natural range; give unsigned"),
        (np.full((4, 4), np.nan), {}, "image-00000: NaN or infinite pixels"),
        (GRAY * 0, {}, "image-00000: a constant image"),
        (np.zeros((3, 4, 5, 1)), {}, "for rank 2 .volumes need rank=3"),
        (GRAY, {"rank": 3}, "for rank 3 .images need rank=2"),
    ],
)
def test_a_bad_item_fails_alone(image, options, message):
    source = MemorySource([image], **options)
    with pytest.raises(DataError, match=message):
        source[0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (TRUTH[:5], "image-00000: the label map is 5x12, its image 10x12"),
        (TRUTH * 7, "image-00000: label 7 is out of range"),
    ],
)
def test_bad_labels_leave_the_image(labels, words):
    labels_fail(MemorySource([GRAY], [labels], class_names=("a", "b"))[0], words)
    given = Sample(id="image-00000", image=MemorySource([GRAY])[0].image)
    labels_fail(MemorySource([given], [labels], class_names=("a", "b"))[0], words)


def test_what_contradicts_itself(tmp_path):
    with pytest.raises(DataError, match="same: two images have this id"):
        MemorySource([GRAY, GRAY], ids=("same", "same"))
    with pytest.raises(DataError, match="1 ids for 2 images"):
        MemorySource([GRAY, GRAY], ids=("a",))
    with pytest.raises(ConfigError, match="rank is 4"):
        MemorySource([GRAY], rank=4)
    with pytest.raises(ConfigError, match="a source has its own"):
        as_source(open_dataset("triangle", size=32, num=2), [TRUTH, TRUTH])
    save(tmp_path / "a.png", GRAY)
    with pytest.raises(ConfigError, match="the labels of a folder are a folder"):
        as_source(tmp_path, TRUTH)
