import json

import pytest

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.explainers import Ate
from jaxseg_xai.sweeps.config import DataConfig, SweepConfig, read_toml
from tests import tiny

NAMES = [f"i{k}" for k in range(10)]


@pytest.fixture
def images(tmp_path):
    return tiny.write_images(tmp_path / "images", NAMES, size=(24, 24))


def chosen(source, **options):
    dataset, indices = DataConfig(source=str(source), **options).open(tiny.CLASS_NAMES, 3)
    return [dataset.ids[index] for index in indices]


def test_items_in_the_order_given_and_limit_evenly(images):
    assert chosen(images) == NAMES
    assert chosen(images, limit=2) == ["i2", "i7"]
    assert chosen(images, limit=99) == NAMES
    assert chosen(images, items=("i4", "i1", "i4")) == ["i4", "i1"]
    assert chosen(images / "images" / "i3.png") == ["i3"]


def test_a_folder_named_as_a_built_in_data_set_is_not_in_the_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_images(tmp_path / "triangle", ["i0"])
    assert chosen("triangle", limit=1, size=32)[0].startswith("triangle-test")
    assert chosen("./triangle") == ["i0"]
    pool = DataConfig(source="./triangle", window=(0.0, 9.0)).open_pool("triangle", 3)
    assert pool.ids[0].startswith("triangle-test")


def test_defaults_are_valid():
    SweepConfig().validate()


def test_identity_is_json_and_leaves_out_what_changes_nothing():
    config = SweepConfig(data=DataConfig(window=(0.0, 1.0)))
    identity = config.identity()
    assert json.loads(json.dumps(identity)) == identity
    same = SweepConfig(
        data=DataConfig(window=(0.0, 1.0)), batch_size=3, overwrite=True, ate=Ate(batch_size=2)
    )
    assert same.identity() == identity
    assert SweepConfig(ate=Ate(num_patches=2)).identity() != SweepConfig().identity()


def test_every_kind_of_value(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        'out = "a/b"\nclasses = ["x", "y"]\noverwrite = true\nseed = 2\npad = "edge"\n'
        '[data]\nlabels = "l"\nwindow = [0, 1.5]\n[roi]\ncorner = [1, 2]\n[misure]\ntau = 1\n'
    )
    config = read_toml(path, SweepConfig)
    assert (str(config.out), config.classes, config.overwrite) == ("a/b", ("x", "y"), True)
    assert (config.seed, config.pad, config.roi.corner) == (2, "edge", (1, 2))
    assert (str(config.data.labels), config.data.window) == ("l", (0.0, 1.5))
    assert isinstance(config.misure.tau, float)
    assert config.ate == Ate()


@pytest.mark.parametrize("text", ["seed = true", "[roi]\ncorner = [1, 2, 3]", "[roi]\ncorner = 1"])
def test_values_of_a_neighbouring_type_are_not_taken(text, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"valid integer|at most 2 items|valid array"):
        read_toml(path, SweepConfig)
