import itertools

import numpy as np
import pytest

from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.input_spec import InputSpec
from jaxseg_xai.data.sources.folder import FolderDataset
from jaxseg_xai.data.sources.memory import MemorySource
from jaxseg_xai.data.sources.triangle import TriangleDataset
from jaxseg_xai.training.batches import training_batches
from tests import tiny


@pytest.fixture
def dataset():
    return TriangleDataset("train", size=32, num=6)


def take(dataset, count, **options):
    options = {"spec": InputSpec(), "seed": 0, "augment": False} | options
    return list(itertools.islice(training_batches(dataset, 4, **options), count))


@pytest.mark.parametrize("augment", [False, True])
def test_batch_k_depends_on_the_seed_and_k_only(dataset, augment):
    batches = take(dataset, 4, augment=augment)
    for one, two in zip(batches[2:], take(dataset, 2, augment=augment, first_step=2), strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
    other = take(dataset, 1, augment=augment, seed=1)
    assert (other[0][0] != batches[0][0]).any()


def test_every_epoch_shows_every_image_once_in_another_order(dataset):
    images = np.concatenate([images for images, _ in take(dataset, 3)])  # two epochs of six
    known = [dataset[i].image for i in range(6)]
    order = [next(i for i in range(6) if (known[i] == image).all()) for image in images]
    assert sorted(order[:6]) == sorted(order[6:]) == list(range(6))
    assert order[:6] != order[6:]


def test_labels_move_with_the_image(dataset):
    class Marked:
        """The label map is the first channel, so that it shows what happened to it."""

        class_names = ("background", "bright")

        def __len__(self):
            return len(dataset)

        def __getitem__(self, index):
            sample = dataset[index]
            image = np.repeat(sample.labels[..., None], 3, -1).astype(np.float32)
            return type(sample)(id=sample.id, image=image, labels=sample.labels)

    images, labels = take(Marked(), 1, augment=True)[0]
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    assert images.min() >= 0
    assert images.max() <= 1
    np.testing.assert_array_equal(images[..., 0] > 0.5, labels == 1)


def test_batches_are_of_the_size_that_the_network_takes(dataset):
    images, labels = take(dataset, 1, spec=InputSpec(fixed_size=(16, 24)), augment=True)[0]
    assert (images.shape, labels.shape) == ((4, 16, 24, 3), (4, 16, 24))
    assert set(np.unique(labels)) == {0, 1}
    # As much of the picture is the object as before.
    assert labels.mean() == pytest.approx(take(dataset, 1)[0][1].mean(), rel=0.1)


def test_volumes_are_augmented_along_every_axis():
    values = np.arange(4 * 8 * 12).reshape(1, 4, 8, 12)
    source = MemorySource(np.float32(values[..., None] / values.max()), values, rank=3)
    seen = set()
    for _, labels in take(source, 12, spec=InputSpec(rank=3, channels=1), augment=True):
        for one in labels:
            step = one[0, 0, 1] - one[0, 0, 0]
            seen.add((*map(int, np.argwhere(one == 0)[0]), bool(step in (-1, 11))))
            assert sorted(one.ravel()) == list(range(values.size))
    planes, rows, columns, flipped = (set(places) for places in zip(*seen, strict=True))
    # Moved by at most a quarter of the size along each axis, either way.
    assert planes == {0, 1, 3}
    assert rows == {0, 1, 2, 6, 7}
    assert len(columns) > 4
    assert flipped == {False, True}


def test_bad_images_are_named(tmp_path):
    bare = tiny.write_images(tmp_path / "bare", ["i0", "i1"], labels=False)
    with pytest.raises(DataError, match=r"i[01]: has no label map; training needs one"):
        take(FolderDataset(bare), 1)
    with pytest.raises(DataError, match=r"s[01]: pixels of type uint8; its source must give"):
        take(tiny.Bytes(), 1)
    mixed = tiny.write_images(tmp_path / "mixed", ["i0", "i1"])
    tiny.write_images(mixed, ["i2", "i3"], size=(48, 32))
    with pytest.raises(DataError, match="differ in shape"):
        take(FolderDataset(mixed), 1)
