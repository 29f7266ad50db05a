"""Settings, models and stores that cannot be used: one line each that says so."""

import json
import shutil

import pytest

from jaxseg_xai.cli import main as cli
from tests import tiny
from tests.cli.commands import no_user_cache, refused, sweep  # noqa: F401


def settings(*arguments):
    return cli.find_command("sweep").settings("sweep", list(map(str, arguments)))


def test_flags_come_on_top_of_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        'model = "m"\nseed = 3\n[[explain]]\nmethod = "ate"\nthreshold = 1\nblock_size = 16\n'
        '[[explain]]\nmethod = "ate"\nlabel = "fine"\nblock_size = 4\n'
    )
    found = settings("--seed", 4, "--config", path, "--ate.num-patches", 7, "--pad", "edge")
    assert (found.model, found.seed, found.pad) == ("m", 4, "edge")
    ate, fine = (job.explainer for job in found.explain)
    # A flag of a method counts for all of its entries, and changes nothing else.
    assert (ate.num_patches, ate.block_size, ate.threshold) == (7, 16, 1.0)
    assert (fine.num_patches, fine.block_size) == (7, 4)
    assert isinstance(ate.threshold, float)
    joined = settings(f"--config={path}")
    assert (joined.seed, joined.explain[0].explainer.block_size) == (3, 16)
    named = settings("--config", path, "--explain", "misure", "a2=ate", "--ate.threshold", "-1")
    assert [job.label for job in named.explain] == ["misure", "a2"]
    assert named.explain[1].explainer.threshold == -1


def test_flags_of_methods_that_are_not_asked_for(capsys):
    refused(
        capsys, ["sweep", "--explain", "misure", "--ate.block-size", "4"], "add it to --explain"
    )
    refused(capsys, ["sweep", "--explainers", "misure"], "write --explain misure")
    refused(capsys, ["sweep", "--explainers=ate", "--seed", "1"], "write --explain ate")
    refused(capsys, ["explain", "--pool-source=x"], "now --others-source; write --others-source x")
    refused(capsys, ["sweep", "--pool_patches", "9"], "write --num-patches 9")


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("fooo = 1", ["unknown key fooo", "the keys are out, model"]),
        ('[[explain]]\nmethod = "ate"\nblock = 1', ["ate: unknown key block", "block_size"]),
        ("[data.window]\nlo = 1", ["data.window", "valid array"]),
        ("seed = ", ["not TOML", "Invalid value"]),
        ("seed = 'a'", ["seed is 'a'", "integer"]),
        ("batch_size = 1.5", ["batch_size is 1.5", "integer"]),
        ("explain = 3", ["explain is 3", "[[explain]]"]),
        ("classes = 'bright'", ["classes is 'bright'", "valid array"]),
        ("pad = 'wrap'", ["pad is 'wrap'", "'refuse', 'edge', 'reflect' or 'constant'"]),
        ("batch_size = 0", ["batch_size is 0", "at least 1"]),
        ("[roi]\nside = 0", ["roi.side is 0"]),
        ('[[explain]]\nmethod = "misure"\ntau = 1.5', ["misure.tau is 1.5", "at most 1"]),
        ('[[explain]]\nmethod = "misure"\ntau = nan', ["misure.tau is nan"]),
        ('[[explain]]\nmethod = "ate"\nblock_size = 0', ["ate.block_size is 0"]),
        ("seed = -1", ["seed is -1", "at least 0"]),
        ('[[explain]]\nmethod = "lime"', ["unknown explainer 'lime'", "misure, misure_paper"]),
        ("explain = []", ["no method to explain with"]),
        ("classes = ['dog']", ["unknown class dog", "background, bright, never"]),
        ("[data]\nlimit = -1", ["data.limit"]),
        ("[data]\nitems = ['i9']", ["no item i9", "i0, i1, i2"]),
        ("[data]\nwindow = [1, 1]", ["window", "lo must be below hi"]),
        ("[data]\nsource = 'nowhere'", ["nowhere", "folder"]),
        ("model = 'nowhere'", ["nowhere", "no such model", "model.json"]),
        ("others_source = 'nowhere'", ["nowhere", "folder"]),
        ("num_patches = 1", ["num_patches is 1", "2"]),
        (
            '[[explain]]\nmethod = "ate"\nblock_size = 64',
            ["32x32, smaller than the block (64)", "block_size"],
        ),
    ],
)
def test_bad_settings(toml, words, capsys, tmp_path, model, images):
    path, out = tmp_path / "c.toml", tmp_path / "s.zarr"
    path.write_text(toml)
    flags = [] if toml.startswith("model") else ["--model", model]
    flags += [] if "\nsource" in toml else ["--data.source", images]
    if "explain" not in toml:
        flags += ["--explain", "misure", "ate"]
    refused(capsys, ["sweep", "--config", path, "--out", out, *flags], *words)
    assert not out.exists()


def test_the_configuration_file_must_be_there(capsys, tmp_path):
    refused(capsys, ["sweep", "--config", tmp_path / "no.toml"], "no.toml", "No such file")
    refused(capsys, ["sweep", "--config"], "--config needs the path")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    refused(capsys, ["sweep", "--config", tmp_path / "b.toml"], "b.toml: not TOML")


@pytest.mark.parametrize("flags", [["--fooo"], ["--seed", "x"], ["--pad", "wrap"], ["--seed"]])
def test_bad_flags(flags, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["sweep", *flags])
    assert stop.value.code == 2
    assert flags[0] in capsys.readouterr().err


def test_unknown_commands(capsys):
    refused(capsys, ["explode"], "unknown command 'explode'", "demo, inspect, explain, sweep")
    refused(capsys, ["sources", "voc", "now"], "takes no arguments")
    refused(capsys, ["train", "--architecture", "unet", "--steps", "0"], "steps is 0")


# Images that cannot be used


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--misure.learning-rate", "inf"], ["misure.learning_rate is inf", "finite"]),
        (["--ate.threshold", "nan"], ["ate.threshold is nan", "finite"]),
        (
            ["--explain", "misure_paper", "--misure-paper.cut", "2"],
            ["misure_paper.cut is 2.0"],
        ),
        (["--misure.max-dilations", "2000000000"], ["misure.max_dilations"]),
        (["--seed", "99999999999999999999"], ["seed"]),
    ],
)
def test_numbers_that_make_no_sense(flags, words, capsys, tmp_path):
    flags = flags if "--explain" in flags else ["--explain", "misure", "ate", *flags]
    refused(capsys, ["sweep", "--out", tmp_path / "s.zarr", *flags], *words)


def test_report_of_a_folder_without_a_name(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refused(capsys, ["report", "--store", "."], "store")


# Models and stores that cannot be used


def test_weights_of_another_architecture(model, images, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "other")
    card = json.loads((other / "model.json").read_text())
    card["config"]["norm"] = "batch"
    (other / "model.json").write_text(json.dumps(card))
    flags = ["sweep", "--data.source", images, "--out", tmp_path / "s.zarr", "--explain", "misure"]
    flags += ["--model"]
    refused(capsys, [*flags, other], "weights.safetensors", "more layers; 24 missing: decoder")
    (other / "weights.safetensors").write_bytes(b"1234")
    refused(capsys, [*flags, other], "weights.safetensors", "damaged")
    (other / "model.json").write_text("{")
    refused(capsys, [*flags, other], "model.json")


@pytest.mark.parametrize("command", ["sweep", "explain"])
def test_output_that_cannot_be_written(command, model, images, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    flags = ["--model", model, "--data.source", images, *tiny.FLAGS]
    refused(capsys, [command, *flags, "--out", tmp_path / "file" / "x"], "file/x", "check the path")


def test_other_outputs_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "x"
    train = ["train", "--architecture", "unet"]
    flags = ["--data", "triangle", "--size", "32", "--out", out]
    refused(capsys, [*train, *flags], "file/x", "choose another out")
    refused(capsys, [*train, "--out", tmp_path], "data is empty: name a data set")


def test_a_folder_that_is_not_a_store(model, images, tmp_path, capsys):
    (tmp_path / "keep").write_text("precious")
    flags = ["--model", model, "--data.source", images, *tiny.FLAGS, "--out", tmp_path]
    for overwrite in ([], ["--overwrite"]):
        refused(capsys, ["sweep", *flags, *overwrite], tmp_path, "not an explanation store")
    assert (tmp_path / "keep").read_text() == "precious"


def test_a_report_needs_a_store(tmp_path, capsys):
    refused(capsys, ["report", "--store", tmp_path / "no.zarr"], "no.zarr does not exist")
