"""The brain template: orientation, labels, splits, no network."""

import socket
import sys

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, MissingExtraError
from jaxseg_xai.data.sources import brain as brain_module
from jaxseg_xai.data.sources.brain import BrainDataset
from jaxseg_xai.data.sources.brain_volume import BrainVolumeDataset

pytest.importorskip("nilearn")

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def splits():
    def no_network(*args):
        raise AssertionError(f"network touched: {args}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        patch.setattr(socket, "getaddrinfo", no_network)
        return {split: BrainDataset(split) for split in SPLITS}


def levels(dataset):
    return [int(name.rsplit("z", 1)[1]) for name in dataset.ids]


def test_items(splits):
    assert splits["test"].class_names == ("background", "csf", "grey matter", "white matter")
    for dataset in splits.values():
        assert len(dataset) == len(dataset.ids) >= 8
        for index in (0, len(dataset) - 1):
            sample = dataset[index]
            assert sample.image.shape == (192, 160, 1)
            assert sample.image.dtype == np.float32
            assert sample.labels.shape == (192, 160)
            assert sample.labels.dtype == np.int32
            assert 0 <= sample.image.min() < sample.image.max() <= 1
            assert (sample.labels > 0).mean() >= 0.03
    with pytest.raises(IndexError):
        splits["test"][len(splits["test"])]


def test_splits_keep_a_gap(splits):
    found = {split: levels(dataset) for split, dataset in splits.items()}
    for split in ("validation", "test"):
        assert np.array_equal(np.diff(found[split]), np.ones(len(found[split]) - 1))
        others = [level for other in SPLITS if other != split for level in found[other]]
        assert min(abs(a - b) for a in found[split] for b in others) > 4


def test_labels_lie_on_the_tissue(splits):
    dataset = splits["test"]
    samples = [dataset[index] for index in range(len(dataset))]
    images = np.stack([sample.image[..., 0] for sample in samples])
    labels = np.stack([sample.labels for sample in samples])
    means = [images[labels == value].mean() for value in range(4)]
    assert means == sorted(means)
    assert means[3] > means[2] + 0.1
    assert means[0] < 0.02
    # Even in the slices through the ventricles there is less fluid than either of the others.
    assert (labels == 1).sum() < min((labels == 2).sum(), (labels == 3).sum())


def test_orientation(splits):
    # Left-right: the midline of the symmetric template lies near the middle column.
    sample = splits["test"][8]
    image = sample.image[..., 0]
    columns = np.flatnonzero(image.any(axis=0))
    inner = image[:, columns[0] : columns[-1] + 1]
    np.testing.assert_allclose(inner, inner[:, ::-1], atol=1e-6)
    # Anterior up: low down, the cerebellum (with the gap to the temporal lobes) is at the bottom.
    lowest = splits["train"][0].labels
    rows = np.flatnonzero(lowest.any(axis=1))
    assert rows.mean() > 192 / 2
    # Near the lateral ventricles the frontal end is narrower than the parietal one.
    brain = sample.labels > 0
    rows = np.flatnonzero(brain.any(axis=1))
    quarter = len(rows) // 4
    width = brain.sum(axis=1)
    assert width[rows[quarter]] < width[rows[-quarter]]


def test_axial_puts_the_front_up_and_the_right_on_the_left():
    volume = np.zeros((16, 16, 2))
    volume[15, 15, 1] = 1  # right, front, top
    slices = brain_module.axial(volume, ((0, 16), (0, 16)))
    assert slices.shape == (2, 16, 16)
    assert slices[1, 0, 0] == 1
    padded = brain_module.axial(volume, ((-8, 24), (0, 16)))
    assert padded.shape == (2, 16, 32)
    assert padded[1, 0, 8] == 1


def test_bad_arguments():
    with pytest.raises(ConfigError, match="resolution_mm=7"):
        BrainDataset(resolution_mm=7)
    with pytest.raises(ConfigError, match="split='all'"):
        BrainDataset("all")


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(MissingExtraError, match=r"jaxseg-xai\[demo\]"):
        brain_module._load_slices.__wrapped__(1)


@pytest.fixture(scope="module")
def volumes():
    return {split: BrainVolumeDataset(split) for split in SPLITS}


def test_parts_of_the_volume_keep_a_gap(volumes):
    """Millimetres from the front of each part: the frontal lobes, the middle, the back."""
    found = {}
    for split in SPLITS:
        whole = volumes[split]._whole
        assert not any(side % 16 for side in whole.labels.shape)
        ends = [(whole.affine @ [0, h, 0, 1])[1] for h in (0, whole.labels.shape[1] - 1)]
        found[split] = ends
    assert found["test"][1] - found["train"][0] > 4
    assert found["train"][1] - found["validation"][0] > 4


def test_a_volume_lies_where_the_slices_lie(volumes, splits):
    """The same voxels, by the millimetres of the template."""
    slices, (sample,) = splits["test"], (volumes["test"][0],)
    level = levels(slices)[0]  # of the template along z
    place = round((np.linalg.inv(sample.affine) @ [0, 0, level - 72, 1])[0])
    axial = slices[0]
    front = sample.image[place, ..., 0]
    rows, columns = (axial.image[..., 0].any(axis=1 - axis).nonzero()[0] for axis in (0, 1))
    mine = [front.any(axis=1 - axis).nonzero()[0] for axis in (0, 1)]
    height = min(np.ptp(mine[0]) + 1, 40)
    np.testing.assert_array_equal(
        axial.image[rows[0] : rows[0] + height, columns.mean().astype(int), 0],
        front[mine[0][0] : mine[0][0] + height, mine[1].mean().astype(int)],
    )


def test_cubes_are_cut_out_of_the_middle(volumes):
    dataset = volumes["train"]
    whole, last = dataset._whole, dataset[len(dataset) - 1]
    assert dataset.ids[-1] == "brain-volume-train-00063"
    assert last.image.shape == (32, 32, 32, 1)
    corner = np.round(np.linalg.inv(whole.affine) @ last.affine[:, 3]).astype(int)[:3]
    place = tuple(slice(c, c + 32) for c in corner)
    np.testing.assert_array_equal(last.labels, whole.labels[place])
    np.testing.assert_array_equal(last.image, whole.image[place])
    for options in ({"cube": 8}, {"num_cubes": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            BrainVolumeDataset(**options)
