"""The committed experiments: read as they are, and run on tiny data in their layouts."""

import csv
from pathlib import Path

import pytest

from jaxseg_xai.cli import main as cli
from jaxseg_xai.data.sources.synapse import CLASS_NAMES
from jaxseg_xai.judging.config import JudgeConfig
from jaxseg_xai.sweeps.config import read_config
from tests import tiny
from tests.data import layouts, volume_layouts

FOLDER = Path(__file__).parents[2] / "experiments"
FILES = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_experiment_is_read(path):
    config = read_config(path, JudgeConfig)
    text = path.read_text()
    assert f"jaxseg-xai judge --config experiments/{path.name}" in text
    assert config.out.parent == Path("runs")


def judge(name, out, *flags):
    """Run an experiment with flags on top; the rows of its table."""
    flags = [str(flag) for flag in flags]
    path = str(FOLDER / f"{name}.toml")
    assert cli.main(["judge", "--config", path, "--out", str(out), *flags]) == 0
    with (out / "table.csv").open() as file:
        return list(csv.DictReader(file))


def assert_all_is_judged(rows, labels):
    assert {row["label"] for row in rows} == set(labels)
    judged = [row for row in rows if row["status"] == "ok"]
    # A random net: a score of a map or two need not be defined.
    assert len(judged) > 0.8 * len(rows)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["ham10000", "fives"])
def test_pdcr(data, tmp_path):
    layout = getattr(layouts, data)(tmp_path)
    name = {"ham10000": "lesion", "fives": "vessel"}[data]
    tiny.write_model(tmp_path / "net", class_names=("background", name))
    rows = judge(
        "pdcr",
        tmp_path / "out",
        *("--models", tmp_path / "net", "--data.source", data, "--data.root", layout.root),
        *("--data.split", {"ham10000": "all", "fives": "train"}[data], "--data.limit", 2),
        *("--data.sizes", 32, 32, "--classes", name, "--roi.side", 4, "--num-patches", 20),
        *("--ate.num-patches", 3, "--misure-paper.num-iterations", 3, "--batch-size", 2),
    )
    assert_all_is_judged(rows, ["ate", "grad_cam", "misure_paper"])


@pytest.mark.slow
def test_misure(tmp_path):
    root = volume_layouts.synapse(tmp_path)
    tiny.write_model(tmp_path / "net", class_names=CLASS_NAMES, channels=1)
    rows = judge(
        "misure",
        tmp_path / "out",
        *("--models", tmp_path / "net", "--data.root", root, "--data.limit", 2),
        *("--data.sizes", 32, 32, "--classes", CLASS_NAMES[1], "--batch-size", 2),
        *("--misure-paper.num-iterations", 3, "--misure.num-iterations", 3),
        *("--rise.num-masks", 9),
    )
    assert_all_is_judged(rows, ["misure_paper", "misure", "grad_cam", "rise"])
