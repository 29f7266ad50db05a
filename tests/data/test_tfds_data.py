"""The TFDS builders and the adapter: built and read with neither tensorflow nor a network."""

import socket
import subprocess
import sys

import numpy as np
import pytest

from jaxseg_xai.core.errors import ConfigError, DataError, MissingExtraError
from jaxseg_xai.data.sources.tfds import TFDSDataset
from jaxseg_xai.data.sources.triangle import TriangleCueDataset
from tests.support import labels_fail

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    import tensorflow_datasets as tfds

    from jaxseg_xai.data.sources import tfds_builders

    def no_network(*args):
        raise AssertionError(f"network touched: {args}")

    builder = tfds_builders.TriangleCue(config="64", data_dir=tmp_path_factory.mktemp("tfds"))
    few = tfds.download.DownloadConfig(max_examples_per_split=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        patch.setattr(socket, "getaddrinfo", no_network)
        builder.download_and_prepare(download_config=few)
    return builder


@pytest.mark.parametrize("split", ["train", "test"])
def test_round_trip_without_tensorflow(builder, split):
    dataset = TFDSDataset(
        builder.as_data_source(split), class_names=builder.class_names, id_feature="id"
    )
    made = TriangleCueDataset(split, size=64, num=3)
    assert dataset.class_names == made.class_names
    assert dataset.ids == made.ids
    for index in range(3):
        np.testing.assert_array_equal(dataset[index].image, made[index].image)
        np.testing.assert_array_equal(dataset[index].labels, made[index].labels)
        causal = builder.as_data_source(split)[index]["causal"][..., 0]
        np.testing.assert_array_equal(causal > 0, made.causal_mask(index))
    assert "tensorflow" not in sys.modules


def test_from_directory(builder):
    dataset = TFDSDataset.from_directory(builder.data_dir, "validation", labels=None, name="tri")
    assert dataset.ids == ("tri-00000", "tri-00001", "tri-00002")
    sample = dataset[1]
    assert sample.labels is None
    assert sample.image.dtype == np.float32
    assert sample.image.shape == (64, 64, 3)
    with pytest.raises(ConfigError, match="choose one of train, validation, test"):
        TFDSDataset.from_directory(builder.data_dir, "dev")


def test_names_sizes_and_info():
    from jaxseg_xai.data.sources import tfds_builders

    assert tfds_builders.Triangle.name == "triangle"
    assert tfds_builders.TriangleCue.name == "triangle_cue"
    assert set(tfds_builders.Triangle.builder_configs) == {"64", "128"}


def test_no_prepared_data_set(tmp_path):
    with pytest.raises(DataError, match="run download_and_prepare"):
        TFDSDataset.from_directory(tmp_path, "test")


def test_bad_records():
    def item(**record):
        return TFDSDataset([record], class_names=("a", "b"))[0]

    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    labels = np.zeros((4, 4, 1), np.uint8)
    assert item(image=image, label=labels).labels.shape == (4, 4)
    labels_fail(item(image=image), "no feature 'label'; there are image")
    labels_fail(item(image=image, label=labels + np.uint8(7)), "label 7 is out of range")
    with pytest.raises(DataError, match="constant"):
        item(image=image * 0, label=labels)


def test_missing_extra():
    # In a fresh process, since here TFDS is imported already.
    code = (
        "import sys; sys.modules['tensorflow_datasets'] = None\n"
        "import jaxseg_xai.data.sources.tfds_builders"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "MissingExtraError: the TFDS builders needs" in run.stderr
    assert "jaxseg-xai[tfds]" in run.stderr


def test_missing_extra_from_directory(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingExtraError, match=r"jaxseg-xai\[tfds\]"):
        TFDSDataset.from_directory("somewhere", "test")
