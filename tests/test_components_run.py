import csv
import dataclasses

import numpy as np
import pytest

from jaxseg_xai.cli.components import ComponentsConfig, run_components
from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.parts.components import ComponentAte
from jaxseg_xai.sweep.config import DataConfig, RoiConfig
from tests import tiny


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("components")
    tiny.write_model(folder / "model")
    tiny.write_images(folder / "data", ["i0", "i1", "i2", "i3"])
    return ComponentsConfig(
        out=folder / "out",
        model=str(folder / "model"),
        data=DataConfig(source=str(folder / "data"), items=("i0", "i2")),
        classes=("bright", "never"),
        components=ComponentAte(exact_channels=False),
        roi=RoiConfig(side=8),
        num_others=2,
    )


def test_a_csv_and_a_picture_of_each_class_that_is_there(config):
    tables = run_components(config)
    assert list(tables) == ["bright"]  # no label map has the other
    assert tables["bright"].statuses.tolist() == [Status.OK, Status.OK]
    with open(config.out / "components.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["class_name"] for row in rows} == {"bright"}
    assert any(row["kind"] == "skip" for row in rows)
    found = {row["name"]: float(row["ate"]) for row in rows if row["ate"]}
    assert found["head"] == pytest.approx(
        tables["bright"].ate[tables["bright"].names.index("head")]
    )
    assert [path.name for path in config.out.glob("*.png")] == ["components-bright.png"]


def test_an_image_has_the_same_effects_whatever_is_beside_it(config):
    both = run_components(config)["bright"]
    alone = dataclasses.replace(config, data=dataclasses.replace(config.data, items=("i2",)))
    np.testing.assert_allclose(
        run_components(alone)["bright"].effects[0], both.effects[1], atol=1e-3
    )


def test_what_cannot_be_done_is_said(config, tmp_path):
    with pytest.raises(DataError, match="3 other images of its size, num_others=9"):
        run_components(dataclasses.replace(config, num_others=9))
    with pytest.raises(ConfigError, match="num_others is 0"):
        run_components(dataclasses.replace(config, num_others=0))
    with pytest.raises(ConfigError, match="no layer nose"):
        run_components(dataclasses.replace(config, components=ComponentAte(layers=("nose",))))
    with pytest.raises(DataError, match="no image has any of the classes"):
        run_components(dataclasses.replace(config, classes=("never",)))
    tiny.write_images(tmp_path, ["i0"])
    tiny.write_images(tmp_path, ["i1"], size=48)
    mixed = DataConfig(source=str(tmp_path))
    with pytest.raises(DataError, match="choose images of one size"):
        run_components(dataclasses.replace(config, data=mixed))
