"""The command line as its user meets it: exit codes, one line for what is wrong, nothing lost."""

import contextlib
import io
import json
import shlex
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import jaxseg_xai
from jaxseg_xai.cli import main as cli
from jaxseg_xai.cli import models
from jaxseg_xai.core.types import Status
from jaxseg_xai.data.sources.voc import VOCDataset
from jaxseg_xai.models import load_model
from jaxseg_xai.report.files import save_figures
from jaxseg_xai.store import ZarrStore
from jaxseg_xai.sweeps import engine, stored
from tests import tiny
from tests.cli.commands import GOOD, no_user_cache, refused, sweep  # noqa: F401

# What is listed and explained


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_has_an_example(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Example: jaxseg-xai {name}" in shown
    assert "--config FILE.toml" in shown


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_example_is_accepted(name):
    command = cli.find_command(name)
    words = shlex.split(command.example)[1 + len(name.split()) :]
    if "--config" in words:
        del words[words.index("--config") : words.index("--config") + 2]
    assert isinstance(command.settings(name, words), command.config)


def test_help(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in [*cli.COMMANDS, *cli.LISTINGS]:
        assert name in shown
    assert cli.main([]) == 2
    assert cli.main(["sources", "--help"]) == 0
    capsys.readouterr()
    assert cli.main(["reliability", "--help"]) == 0
    assert "reliability predict" in capsys.readouterr().out
    refused(capsys, ["explode", "--help"], "unknown command 'explode'")


def test_listings(capsys, monkeypatch, model):
    monkeypatch.setattr(models, "bundled_models", lambda: {"tiny": model})
    assert cli.main(["models"]) == 0
    assert cli.main(["explainers"]) == 0
    assert cli.main(["sources"]) == 0
    shown = capsys.readouterr().out
    assert "tiny" in shown
    assert "background, bright, never" in shown
    assert "trained on noise, held-out Dice 0.5\n" in shown
    assert "misure " in shown
    assert "Average treatment effect" in shown
    assert "triangle-cue" in shown
    assert f"{'':20} licence  {VOCDataset.licence}\n" in shown
    assert f"{'':20} options  --data.size, --data.num, --data.options seed\n" in shown
    assert cli.main(["sources", "voc"]) == 0
    shown = capsys.readouterr().out
    assert f"from     {VOCDataset.homepage}\n" in shown
    assert "  root: the folder VOC2012.\n" in shown
    assert cli.main(["explainers", "ate"]) == 0
    assert "--block-size" in capsys.readouterr().out
    refused(capsys, ["explainers", "lime"], "unknown explainer 'lime'", "misure")


def test_what_models_cost(capsys, monkeypatch, model):
    monkeypatch.setattr(models, "bundled_models", lambda: {"tiny": model})
    monkeypatch.setattr(models, "load_model", lambda _: load_model(model))
    sizes = ["--size", "34", "--block-size", "4", "--region-side", "4"]
    assert cli.main(["models", *sizes, "--only", "tiny", "unet3d"]) == 0
    head, tiny_model, volume = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["model", "paper", "parameters"]
    assert "arXiv 1505.04597" in tiny_model
    assert "34x34" in tiny_model
    assert "16x16x16" in volume  # a quarter
    refused(capsys, ["models", "--size", "34", "--only", "lenet"], "lenet", "unet")
    refused(capsys, ["models", "--size", "3"], "size is 3")


def test_the_package_runs_as_a_module_and_tells_its_version():
    command = [sys.executable, "-m", "jaxseg_xai", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == f"jaxseg-xai {jaxseg_xai.__version__}\n"


# Settings


@pytest.fixture(scope="module")
def bad(model, tmp_path_factory):
    """A sweep over good and bad images: exit code, errors printed, rows by explainer and image."""
    root = tmp_path_factory.mktemp("bad")
    folder = tiny.write_images(root / "data", GOOD, labels=False) / "images"
    whole = (folder / "i0.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("not an image")
    (folder / "notes.docx").write_text("not an image")
    Image.fromarray(tiny.picture(3)[0][..., 0]).save(folder / "grey.png")
    Image.fromarray(tiny.picture(4, 31)[0]).save(folder / "odd.png")
    holed = tiny.picture(5)[0] / np.float32(255)
    holed[3, 4] = np.nan
    np.savez(folder / "nan.npz", image=holed)
    out = root / "s.zarr"
    with contextlib.redirect_stderr(io.StringIO()) as error:
        code = sweep(model, folder, out)
    store = ZarrStore.open(out)
    rows = {(row.label, row.image_id): store.read(row) for row in store.rows()}
    return code, error.getvalue(), rows


REASONS = {
    "truncated": ["truncated.png", "again"],
    "text": ["text.png"],
    "notes.docx": ["notes.docx", "convert it to one of"],
    "grey": ["grey: 1 channels, the model takes 3", 'set channels="repeat"'],
    "odd": ["odd: 31x31 is not a multiple of the model's stride 2", "set pad to edge"],
    "nan": ["nan.npz", "NaN or infinite", "nan_to_num"],
}


def test_bad_images_do_not_stop_the_good_ones(bad):
    code, error, rows = bad
    assert code == 1
    assert "Traceback" not in error
    assert len(rows) == 2 * (len(GOOD) + len(REASONS))
    for (_, name), row in rows.items():
        assert row.row.status is (Status.OK if name in GOOD else Status.FAILED)


@pytest.mark.parametrize("name", REASONS)
def test_a_bad_image_is_recorded_with_its_reason(name, bad):
    _, error, rows = bad
    for label in ("misure", "ate"):
        found = rows[label, name]
        assert found.attribution is None
        reason = found.row.reason
        for word in REASONS[name]:
            assert word in reason, reason
        assert f"failed: {reason}" in error.splitlines()


def test_empty_images_fail_nothing_unless_there_are_no_others(model, tmp_path, capsys):
    images = tiny.write_images(tmp_path / "data", ["i0"], labels=False) / "images"
    Image.new("RGB", (32, 32), (9, 9, 9)).save(images / "empty.png")
    out, methods = tmp_path / "s.zarr", ["confidence", "integrated_gradients"]
    assert sweep(model, images, out, explain=methods) == 0
    printed = capsys.readouterr()
    assert "confidence: 1 OK, 1 EMPTY_IMAGE" in printed.out
    assert "failed" not in printed.err
    rows = [row for row in ZarrStore.open(out).rows() if row.image_id == "empty"]
    assert [row.status for row in rows] == [Status.EMPTY_IMAGE] * 2
    assert "empty.png: a constant image, so there is nothing to explain" in rows[0].reason
    figures = list(save_figures(ZarrStore.open(out), tmp_path / "figures"))
    assert [path.name for path in figures] == [f"i0-bright-{name}.png" for name in methods]
    Image.fromarray(tiny.picture(1)[0]).save(images / "empty.png")
    assert sweep(model, images, out, "--retry-failed", explain=methods) == 0
    assert "confidence: 2 OK" in capsys.readouterr().out
    dark = ("--data.window", "1000", "2000", "--overwrite")
    assert sweep(model, images, out, *dark, explain=methods) == 1
    assert "every image is the same value everywhere; check the window" in capsys.readouterr().err


def test_padding_gives_maps_of_the_original_size(model, tmp_path):
    folder = tmp_path / "data"
    tiny.write_images(folder, ["i0"], size=(30, 31))
    assert sweep(model, folder, tmp_path / "s.zarr", "--pad", "edge", explain=["misure"]) == 0
    store = ZarrStore.open(tmp_path / "s.zarr")
    row = store.read(store.rows("misure")[0])
    assert row.row.status is Status.OK
    assert row.attribution.shape == row.maps["prediction"].shape == (30, 31)
    assert store.read_image(0).prediction.shape == (30, 31)


def test_what_the_card_says_of_sizes_and_grey_images_holds_unless_a_flag_says_otherwise(tmp_path):
    folder, net = tmp_path / "data", tiny.write_model(tmp_path / "model")
    card = json.loads((net / "model.json").read_text())
    card["input"] = {"pad": "edge", "grey": "repeat"}
    (net / "model.json").write_text(json.dumps(card))
    tiny.write_images(folder, ["i0"], size=(30, 31), labels=False)
    path = folder / "images" / "i0.png"
    Image.open(path).convert("L").save(path)
    assert jaxseg_xai.explain(net, path, "bright", "confidence").status_name == "OK"
    flags = ("--data.items", "i0")
    assert sweep(net, folder, tmp_path / "s.zarr", *flags, explain=["confidence"]) == 0
    for flag in ("--pad", "--channels"):
        out = tmp_path / f"{flag}.zarr"
        assert sweep(net, folder, out, *flags, flag, "refuse", explain=["confidence"]) == 1
    sizes = ["plan", "--model", str(net), "--height", "33", "--width", "33", "--block-size", "4"]
    assert cli.main([*sizes, "--region-side", "8"]) == 0
    assert cli.main([*sizes, "--region-side", "8", "--pad", "refuse"]) == 2


def test_the_region_of_interest(model, images, tmp_path, capsys):
    outside = tmp_path / "outside.zarr"
    assert sweep(model, images, outside, "--roi.corner", "30", "30") == 1
    assert "does not lie in the 32x32 image; change its side or corner" in (capsys.readouterr().err)
    assert ZarrStore.open(outside).counts() == {"misure": {"OK": 3}, "ate": {"FAILED": 3}}
    empty = tmp_path / "empty.zarr"
    flags = ["--roi.corner", "0", "0", "--data.items", "i0"]
    assert not tiny.picture(0)[1][:8, :8].any()
    assert sweep(model, images, empty, *flags, explain=["ate"]) == 0
    assert ZarrStore.open(empty).counts() == {"ate": {"EMPTY_TARGET": 1}}


def test_one_image_is_no_pool(model, tmp_path, capsys):
    folder = tiny.write_images(tmp_path / "one", ["i0"])
    flags = ["sweep", "--model", model, "--data.source", folder, *tiny.FLAGS]
    words = ["patch pool", "at least two are needed", "others_source"]
    refused(capsys, [*flags, "--out", tmp_path / "s.zarr"], *words)


# The way through


def test_sweep_explain_and_report(model, images, tmp_path, capsys):
    out = tmp_path / "s.zarr"
    flags = ["--data.limit", "2"]
    assert sweep(model, images, out, *flags) == 0
    shown = capsys.readouterr().out
    assert "misure: 2 OK; 2 computed in" in shown
    assert f"store: {out}" in shown
    assert sweep(model, images, out, *flags) == 0
    assert "misure: 2 OK\n" in capsys.readouterr().out  # nothing was left to do
    again = ["sweep", "--model", model, "--data.source", images, "--out", out, *tiny.FLAGS]
    words = ["holds another sweep", "data.limit was 2, is 0", "--overwrite"]
    refused(capsys, again, *words)
    assert sweep(model, images, out, *flags, "--seed", "1", "--overwrite") == 0
    capsys.readouterr()
    page = tmp_path / "r.html"
    assert cli.main(["report", "--store", str(out), "--out", str(page)]) == 0
    assert page.read_text().count("data:image/webp") >= 4
    assert capsys.readouterr().out.strip() == str(page)
    (tmp_path / "file").write_text("")
    refused(capsys, ["report", "--store", out, "--out", tmp_path / "file" / "x"], "file/x")


def test_explaining_one_file_takes_the_patches_from_its_folder(model, images, tmp_path, capsys):
    flags = [*tiny.FLAGS, "--classes", "bright", "--out", str(tmp_path)]
    source = str(images / "images" / "i1.png")
    assert cli.main(["explain", "--model", str(model), "--data.source", source, *flags]) == 0
    names = {"i1-bright-misure.png", "i1-bright-ate.png"}
    assert {path.name for path in (tmp_path / "figures").glob("*.png")} == names
    assert "i1-bright-ate.png" in capsys.readouterr().out


def test_an_interrupted_command_says_that_it_continues(
    model, images, tmp_path, monkeypatch, capsys
):
    out, write = tmp_path / "s.zarr", ZarrStore.write

    def interrupted(self, label, row, *rest, **options):
        if row == 1:
            raise KeyboardInterrupt
        return write(self, label, row, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ZarrStore, "write", interrupted)
        assert sweep(model, images, out) == 130
    error = capsys.readouterr().err
    assert error.splitlines()[-1] == "jaxseg-xai: interrupted; the same command continues"
    assert list(ZarrStore.open(out).pending("misure")) == [1, 2]
    assert sweep(model, images, out) == 0


def test_out_of_memory_is_one_line(model, images, tmp_path, monkeypatch, capsys):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(engine.jax, "device_get", exhausted)
    monkeypatch.setattr(stored, "checksum", lambda _: 0)
    assert sweep(model, images, tmp_path / "s.zarr") == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("jaxseg-xai: out of memory; lower batch_size")
    assert "Traceback" not in "".join(error)


def test_main_keeps_compiled_programs_in_the_users_cache(monkeypatch, tmp_path):
    found = {}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cli.jax.config, "update", found.__setitem__)
    cli._keep_compiled_programs()
    assert found == {"jax_compilation_cache_dir": str(tmp_path / "jaxseg_xai" / "xla")}


def test_a_bug_is_not_taken_for_some_failed_images(monkeypatch, capsys):
    def buggy(_):
        raise ZeroDivisionError

    monkeypatch.setitem(cli.LISTINGS, "sources", (buggy, ""))
    assert cli.main(["sources"]) == cli.EXIT_BUG
    assert "ZeroDivisionError" in capsys.readouterr().err
