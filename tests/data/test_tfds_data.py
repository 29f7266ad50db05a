"""The TFDS builders and the adapter: built and read with neither tensorflow nor a network."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxseg_xai.cli.main import main
from jaxseg_xai.core.errors import ConfigError, DataError, MissingExtraError
from jaxseg_xai.data import LabelValues, name_of_source, open_dataset
from jaxseg_xai.data.sources.tfds import TFDSDataset
from jaxseg_xai.data.sources.triangle import TriangleCueDataset
from tests.support import labels_fail

pytest.importorskip("tensorflow_datasets")


def no_network(*args):
    raise AssertionError(f"network touched: {args}")


def prepare(folder):
    """Writes three items a split of Triangle-Cue; returns the folder of the version."""
    import tensorflow_datasets as tfds

    from jaxseg_xai.data.sources import tfds_builders

    builder = tfds_builders.TriangleCue(config="64", data_dir=folder)
    few = tfds.download.DownloadConfig(max_examples_per_split=3)
    builder.download_and_prepare(download_config=few)
    return Path(builder.data_dir)


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        patch.setattr(socket, "getaddrinfo", no_network)
        yield prepare(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def copy(version, tmp_path):
    """One that a test may spoil."""
    return Path(shutil.copytree(version, tmp_path / "triangle_cue" / "64" / "1.0.0"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_round_trip_without_tensorflow(version, split):
    dataset = open_dataset("tfds:triangle_cue", split, root=version.parents[2], id_feature="id")
    causal = open_dataset(version, split, label_feature="causal")
    made = TriangleCueDataset(split, size=64, num=3)
    assert dataset.class_names == made.class_names
    assert dataset.ids == made.ids
    for index in range(3):
        np.testing.assert_array_equal(dataset[index].image, made[index].image)
        np.testing.assert_array_equal(dataset[index].labels, made[index].labels)
        np.testing.assert_array_equal(causal[index].labels > 0, made.causal_mask(index))
    assert "tensorflow" not in sys.modules


def test_names_of_prepared_data_sets(version, tmp_path, monkeypatch):
    root = version.parents[2]
    for name in ("triangle_cue", "triangle_cue/64", "triangle_cue/64:1.0.0"):
        assert open_dataset(f"tfds:{name}", root=root).ids[2] == "triangle_cue-test-00002"
    assert name_of_source(version) == "tfds"
    assert open_dataset(version, "validation").ids[0] == "triangle_cue-validation-00000"
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    sample = open_dataset("tfds:triangle_cue", read_labels=False)[1]
    assert sample.labels is None
    assert sample.image.dtype == np.float32
    assert sample.image.shape == (64, 64, 3)
    with pytest.raises(ConfigError, match="split='dev': choose one of train, validation, test"):
        open_dataset("tfds:triangle_cue", "dev")
    shutil.copytree(version, tmp_path / "triangle_cue" / "64" / "1.10.0")
    older = shutil.copytree(version, tmp_path / "triangle_cue" / "64" / "1.9.0")
    (older / "dataset_info.json").write_text("damaged")
    assert len(open_dataset("tfds:triangle_cue", root=tmp_path)) == 3
    shutil.copytree(version, tmp_path / "triangle_cue" / "128" / "1.0.0")
    with pytest.raises(
        ConfigError, match=r"the configurations 128, 64; name one, tfds:triangle_cue/1"
    ):
        open_dataset("tfds:triangle_cue", root=tmp_path)


def test_a_prepared_data_set_is_inspected_and_swept(version, tmp_path, capsys):
    flags = ["--data.root", str(version.parents[2]), "--data.options", "id_feature", "id"]
    out = ["--out", str(tmp_path / "sheet.png")]
    assert main(["inspect", "tfds:triangle_cue", *flags, *out]) == 0
    shown = capsys.readouterr().out
    assert "3 of 3 items: triangle-cue-test-00000" in shown
    assert f"classes of the labels: {', '.join(TriangleCueDataset.class_names)}" in shown
    flags += ["--out", str(tmp_path / "s.zarr"), "--model", "triangle-cue", "--store-labels"]
    flags += ["--data.source", "tfds:triangle_cue", "--explain", "confidence"]
    assert main(["sweep", *flags]) == 0


def test_files_that_need_tensorflow(copy):
    info = copy / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError, match=r"1.0.0: written as tfrecord, which needs tens"):
        open_dataset(copy)


def test_which_feature_is_which(copy, monkeypatch):
    features = copy / "features.json"
    text = features.read_text()
    plain = text.replace("labeled_image.LabeledImage", "image_feature.Image")
    assert plain != text
    features.write_text(plain)
    np.testing.assert_array_equal(
        open_dataset(copy)[0].labels, open_dataset(copy, label_feature="label")[0].labels
    )
    assert open_dataset(copy, class_names=("a", "b", "c")).class_names == ("a", "b", "c")
    monkeypatch.setattr("jaxseg_xai.data.sources.tfds._LABELS", ())
    with pytest.raises(ConfigError, match="label_feature: say which feature is the label, of "):
        open_dataset(copy)


def test_names_sizes_and_info():
    from jaxseg_xai.data.sources import tfds_builders

    assert tfds_builders.Triangle.name == "triangle"
    assert tfds_builders.TriangleCue.name == "triangle_cue"
    assert set(tfds_builders.Triangle.builder_configs) == {"64", "128"}


def test_no_prepared_data_set(tmp_path):
    for name in ("", "mnist"):
        with pytest.raises(DataError, match=r"no prepared TFDS data set .* run down"):
            open_dataset("tfds", name=name, root=tmp_path)


def test_values_of_label_maps():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    trimap = np.array([[1, 2, 3, 3]] * 4, np.uint8)[..., None]
    values = LabelValues(map={1: 1, 2: 0}, ignore=(3,))
    given = [{"image": image, "label": trimap}]
    labels = TFDSDataset(given, class_names=("a", "b"), label_values=values)[0].labels
    assert labels[0].tolist() == [1, 0, -1, -1]


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


def test_missing_extra_of_a_prepared_data_set(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingExtraError, match=r"jaxseg-xai\[tfds\]"):
        open_dataset("tfds:mnist")
