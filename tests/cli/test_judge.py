"""`jaxseg-xai judge`: from a data set to tables, continued, and on stores that are there."""

import csv
import shutil

import pytest

from jaxseg_xai.cli import main as cli
from jaxseg_xai.judging import config as judge_config
from jaxseg_xai.judging.config import JudgeConfig
from jaxseg_xai.judging.entries import make_metrics
from jaxseg_xai.sweeps.config import read_config
from tests import tiny
from tests.cli.commands import no_user_cache, refused  # noqa: F401

FILE = """
models = ["{model}"]
out = "{out}"
classes = ["bright"]
data = {{ source = "{images}" }}
batch_size = 4
roi = {{ side = 12 }}
num_resamples = 50

[[explain]]
method = "input_x_gradient"

[[explain]]
method = "input_x_gradient"
label = "again"

[[metrics]]
metric = "deletion"
num_steps = 2

[[published]]
model = "m"
label = "again"
metric = "deletion"
value = 0.5
source = "nowhere, table 1"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    tiny.write_model(folder / "m")
    tiny.write_images(folder / "images", ["i0", "i1", "i2"], labels=False)
    names = {"model": folder / "m", "images": folder / "images", "out": folder / "out"}
    (folder / "judge.toml").write_text(FILE.format(**names))
    return folder


@pytest.fixture(scope="module")
def judged(folder):
    assert cli.main(["judge", "--config", str(folder / "judge.toml")]) == 0
    return folder / "out"


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_tables(judged, folder, capsys):
    table = rows(judged / "table.csv")
    assert [(row["label"], row["score"]) for row in table] == [
        (label, score) for label in ("input_x_gradient", "again") for score in ("auc", "auc_soft")
    ]
    assert {row["num_images"] for row in table} == {"3"}
    assert [row["published"] for row in table] == ["", "", "0.5", ""]
    (pair,) = rows(judged / "pairs.csv")
    assert (pair["num_images"], pair["difference"], pair["p_holm"]) == ("3", "0.0", "1.0")
    methods = rows(judged / "methods.csv")
    assert [row["evaluations"] for row in methods] == ["3.0", "3.0"]
    assert all(float(row["seconds"]) > 0 for row in methods)
    # Once more computes nothing.
    scores = (judged / "scores.jsonl").read_bytes()
    assert cli.main(["judge", "--config", str(folder / "judge.toml")]) == 0
    assert "computed" not in (shown := capsys.readouterr().out)
    assert (judged / "judgement.md").read_text() in shown
    assert (judged / "scores.jsonl").read_bytes() == scores


def test_all_methods_explain_the_same(judged, capsys):
    (region,) = {row["region"] for row in rows(judged / "scores.csv")}
    assert region == "box"


def test_stores_that_are_there(judged, folder, capsys):
    out = folder / "other"
    arguments = ["judge", str(judged / "m.zarr"), "--out", str(out)]
    assert cli.main([*arguments, "--metrics", "energy_inside"]) == 0
    assert len(rows(out / "scores.csv")) == 2 * 3 * 2
    assert "energy_inside ↑" in capsys.readouterr().out


def test_bad_input(judged, folder, tmp_path, capsys):
    store = judged / "m.zarr"
    refused(capsys, ["judge"], "no model to judge with")
    refused(capsys, ["judge", store, "--metrics", "delete"], "unknown metric 'delete'", "deletion")
    refused(capsys, ["judge", store, "--models", "brain"], "leave out model and models")
    refused(capsys, ["judge", folder / "m"], "is not an explanation store")
    refused(capsys, ["judge", "--models", "m", "--model", "n"], "name all of them in models")
    bad = tmp_path / "bad.toml"
    bad.write_text((folder / "judge.toml").read_text() + "\nvalues = 3")
    refused(capsys, ["judge", "--config", bad], bad, "published.0.values")
    bad.write_text('metrics = "deletion"')
    refused(capsys, ["judge", "--config", bad], "write [[metrics]] tables")
    # A store whose model is gone.
    shutil.move(folder / "m", folder / "gone")
    try:
        arguments = ["judge", store, "--out", tmp_path / "out"]
        refused(capsys, [*arguments, "--metrics", "energy_inside"], folder / "m")
    finally:
        shutil.move(folder / "gone", folder / "m")


def test_all_beside_those_that_are_named(tmp_path):
    path = tmp_path / "all.toml"
    path.write_text("""
        model = "brain"
        all = true
        explain = [{method = "rise", num_masks = 3}, {method = "rise", label = "more"}]
        metrics = [{metric = "deletion", label = "fine", block_size = 4}]
    """)
    config = read_config(path, JudgeConfig)
    (sweep,) = config.sweeps()
    labels = [job.label for job in sweep.explain]
    assert labels[:2] == ["rise", "more"]
    assert labels.count("rise") == labels.count("grad_cam") == 1
    labels = [entry.label for entry in config.judges()]
    assert labels[0] == "fine"
    assert "deletion" not in labels
    assert "insertion" in labels


def test_what_is_left_out_is_everything(tmp_path):
    (tmp_path / "few.toml").write_text('models = ["brain", "models/mine"]')
    config = read_config(tmp_path / "few.toml", JudgeConfig)
    first, second = config.sweeps()
    assert (first.model, second.model) == ("brain", "models/mine")
    assert second.out == judge_config._OUT / "mine.zarr"
    names = [job.label for job in first.explain]
    assert {(job.region.kind, job.target) for job in first.explain} == {("roi", None)}
    assert {"misure", "ate", "grad_cam"} <= set(names)
    assert not {"confidence", "components"} & set(names)
    assert config.judges() == make_metrics()
