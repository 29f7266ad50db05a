"""The command `compare-models`, and what it writes."""

import csv
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from jaxseg_xai.cli.command import EXIT_BAD_INPUT, EXIT_OK
from jaxseg_xai.cli.main import main
from jaxseg_xai.comparison import compare_effects, compare_models
from jaxseg_xai.core.errors import ConfigError, JaxsegError, MissingExtraError
from jaxseg_xai.report.panels import to_png
from tests.comparison.made_up import store_of
from tests.comparison.test_comparison import NOTHING, A, B
from tests.report.demo_store import EVIL
from tests.report.test_gallery import Page


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two stores, one of them with parts."""
    folder = tmp_path_factory.mktemp("stores")
    for name, effects in {"a": A, "b": B}.items():
        store_of(
            {"im0": effects, "im1": effects, EVIL: NOTHING},
            model=f"net-{name}",
            class_names=("background", "les/ion"),
            sink="zarr",
            path=folder / f"{name}.zarr",
            parts=name == "a",
        )
    return folder


@pytest.fixture(scope="module")
def out(folder):
    stores = [str(folder / name) for name in ("a.zarr", "b.zarr")]
    assert main(["compare-models", *stores, "--out", str(folder / "out")]) == EXIT_OK
    return folder / "out"


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def test_tables_say_what_the_comparison_says(folder, out):
    found = compare_models([folder / "a.zarr", folder / "b.zarr"])
    with (out / "models.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["net-a", "net-b"]
    assert float(rows[0]["negative"]) == found.per_model[0]["negative"]
    assert [int(rows[0][name]) for name in ("to -3", "-0.02 to 0.02")] == [2, 24]
    with (out / "pairs_per_map.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[2]["image_id"] == EVIL
    assert rows[2]["spearman"] == ""  # all zeros: not defined
    known = json.loads((out / "comparison.json").read_text())
    assert known["pairs"][0]["spearman"] == found.pairs[0]["spearman"]
    assert known["notes"] == list(found.notes)
    names = {path.name for path in out.iterdir()}
    assert names == {
        *("models.csv", "maps.csv", "pairs.csv", "pairs_per_map.csv", "parts.csv"),
        *("part_shares.csv", "comparison.json", "comparison.html"),
        *("shares.png", "histogram.png", "agreement.png", "maps.png"),
        "parts-net-a-les%2Fion.png",
    }
    with Image.open(io.BytesIO((out / "maps.png").read_bytes())) as picture:
        assert picture.width > 300


def test_the_page_needs_nothing_else(out):
    html = (out / "comparison.html").read_text()
    page = Page(html)
    assert len(page.all("img")) == 5
    assert all(image["src"].startswith("data:image/png") for image in page.all("img"))
    assert all(image["alt"] for image in page.all("img"))
    assert page.all("script") == []
    assert "http" not in html.replace("http-equiv", "")
    assert "rank correlation of net-a and net-b is not defined on 1 of 3 maps" in page.text


def test_notes_go_to_standard_error_and_numbers_to_standard_output(folder, capsys, tmp_path):
    stores = [str(folder / name) for name in ("a.zarr", "b.zarr")]
    options = ["--out", str(tmp_path / "out"), "--max-items", "0", "--pdcr", str(tmp_path / "p")]
    assert main(["compare-models", *stores, *options]) == EXIT_BAD_INPUT
    assert "takes no blanks in names" in capsys.readouterr().err  # the third image's
    assert not (tmp_path / "out").exists()
    stores = [str(folder / "a.zarr"), "--labels", "effects"]
    assert main(["compare-models", *stores, *options[:4]]) == EXIT_OK
    shown = capsys.readouterr()
    assert "note: one model only (net-a)" in shown.err
    assert "positive  negative      zero" in shown.out
    assert not (tmp_path / "out" / "maps.png").exists()
    assert not (tmp_path / "out" / "agreement.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the stores of two models or more"),
        (["none.zarr"], "does not exist"),
        (["a.zarr", "--threshold", "-1"], "threshold is -1.0; it must be at least 0"),
    ],
)
def test_bad_input_is_one_line(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert main(["compare-models", *arguments]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_pictures_of_many_models_and_of_arrays():
    effects = {f"model {i}": np.stack([A, i * B]) for i in range(6)}
    found = compare_effects(effects)
    for what in ("shares", "histogram", "agreement", "maps"):
        figure = found.plot(what, max_items=1)
        assert "model 5" in words(figure)
        to_png(figure)
    nothing = compare_effects({"a": A[None], "b": NOTHING[None]})
    assert words(nothing.plot()).split().count("–") == 2  # no rank correlation, either way
    volumes = compare_effects({"a": np.ones((1, 2, 2, 2)), "b": np.ones((1, 2, 2, 2))})
    with pytest.raises(ConfigError, match="maps of volumes"):
        volumes.plot("maps")
    with pytest.raises(ConfigError, match="no picture 'pies'; there is shares"):
        found.plot("pies")


def test_what_cannot_be_written_and_what_is_missing(tmp_path, monkeypatch):
    found = compare_effects({"a": A[None], "b": B[None]})
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxsegError, match="cannot be written"):
        found.save(tmp_path / "file")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match="report"):
        found.save(tmp_path / "out")
