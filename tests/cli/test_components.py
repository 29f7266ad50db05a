"""The command `components`: a sweep with one method, a table and pictures."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jaxseg_xai.cli.command import EXIT_OK, EXIT_SOME_FAILED
from jaxseg_xai.cli.components import ComponentsConfig, run
from jaxseg_xai.core.errors import DataError
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.parts.components import ComponentAte
from jaxseg_xai.report.parts import tables_of
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps.config import RoiConfig, make_job
from jaxseg_xai.sweeps.data import DataConfig
from tests import tiny

METHOD = ComponentAte(exact_channels=False, num_others=2)


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
        explain=(make_job(METHOD),),
        roi=RoiConfig(side=8),
    )


@pytest.fixture(scope="module")
def table(config):
    assert run(config, "components") == EXIT_OK
    (table,) = tables(config).values()
    return table


def tables(config):
    return tables_of(ZarrStore.open(config.out / "components.zarr"), METHOD.name)


def alone(config, name, **options):
    """The same for another method, data set or folder."""
    return dataclasses.replace(config, out=Path(f"{config.out}-{name}"), **options)


def test_a_csv_and_a_picture_of_each_class_that_is_there(config, table):
    assert list(tables(config)) == ["bright"]  # no label map has the other
    assert table.statuses.tolist() == [Status.OK, Status.OK]
    with open(config.out / "components.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["class_name"] for row in rows} == {"bright"}
    assert any(row["kind"] == "skip" for row in rows)
    found = {row["name"]: float(row["ate"]) for row in rows if row["ate"]}
    assert found["head"] == pytest.approx(table.ate[table.names.index("head")])
    assert [path.name for path in config.out.glob("*.png")] == ["components-bright.png"]


def test_an_image_has_the_same_effects_whatever_is_beside_it(config, table):
    one = alone(config, "one", data=dataclasses.replace(config.data, items=("i2",)))
    assert run(one, "components") == EXIT_OK
    (found,) = tables(one).values()
    np.testing.assert_allclose(found.effects[0], table.effects[1], atol=1e-3)


def test_what_cannot_be_done_is_said(config, capsys):
    nine = make_job(dataclasses.replace(METHOD, num_others=9))
    with pytest.raises(DataError, match="no image can be explained; see why above"):
        run(alone(config, "nine", explain=(nine,), classes=("bright",)), "components")
    assert "3 other images of its size, 9 are needed" in "".join(capsys.readouterr())
    with pytest.raises(DataError, match="no image has any of the classes"):
        run(alone(config, "never", classes=("never",)), "components")


def test_images_of_several_sizes(config, tmp_path):
    tiny.write_images(tmp_path, ["i0", "i1", "i2"])
    tiny.write_images(tmp_path, ["i3"], size=48)
    mixed = alone(config, "mixed", data=DataConfig(source=str(tmp_path)))
    assert run(mixed, "components") == EXIT_SOME_FAILED  # i3 finds no other of its size
    (found,) = tables(mixed).values()
    assert (found.statuses == Status.OK).sum() == 3
