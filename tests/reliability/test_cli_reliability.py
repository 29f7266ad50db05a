"""The commands as their user meets them."""

import csv

import pytest

from jaxseg_xai.cli import main as cli
from jaxseg_xai.core.types import Status
from tests.cli.commands import refused
from tests.reliability import made_up

pytestmark = pytest.mark.usefixtures("one_candidate")


@pytest.fixture(autouse=True, scope="module")
def no_user_cache():
    """`main` leaves the cache alone where the user has chosen one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "chosen")
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory, one_candidate):
    folder = tmp_path_factory.mktemp("trained")
    return made_up.store(folder / "s.zarr", made_up.dices(60), statuses={3: Status.EMPTY_TARGET})


@pytest.fixture(scope="module")
def fitted(trained):
    out = trained.parent / "c.json"
    assert (
        cli.main(["reliability", "fit", str(trained), "--threshold", "0.6", "--out", str(out)]) == 0
    )
    return out


def test_fit_and_predict(trained, fitted, tmp_path, capsys):
    assert fitted.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    new = made_up.store(
        tmp_path / "n.zarr", made_up.dices(20, seed=4), prefix="n", pending=2, seed=9
    )
    out = tmp_path / "deep" / "p.csv"
    flags = [str(fitted), str(new), "--csv", str(out)]
    assert cli.main(["reliability", "predict", *flags]) == 0
    shown = capsys.readouterr().out
    assert "left out 2 PENDING" in shown
    assert "AUROC on 18 labelled explanations of unseen images: 0.9" in shown
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 20
    known = [float(row["probability"]) for row in rows[:18]]
    assert known == sorted(known)
    assert [row["status"] for row in rows[18:]] == ["PENDING", "PENDING"]
    assert rows[0]["class_name"] == "disc"
    assert float(rows[0]["true_dice"]) < 0.6


def test_fit_prints_what_was_left_out_and_the_table(trained, tmp_path, capsys):
    held_out = made_up.store(tmp_path / "h.zarr", made_up.dices(40, seed=5), prefix="h", seed=5)
    flags = [str(trained), "--threshold", "0.6", "--held-out", str(held_out)]
    flags += ["--out", str(tmp_path / "c.json"), "--labels", "misure"]
    assert cli.main(["reliability", "fit", *flags]) == 0
    shown = capsys.readouterr().out
    assert "left out 1 EMPTY_TARGET" in shown
    assert "misure + confidence" in shown
    assert "40 explanations of 40 images" in shown
    assert "classifier (misure):" in shown
    # It needs no confidence scores then.
    alone = made_up.store(tmp_path / "m.zarr", [0.1, 0.9], labels=("misure",), truth=False)
    predict = ["reliability", "predict", str(tmp_path / "c.json"), str(alone)]
    assert cli.main([*predict, "--csv", str(tmp_path / "p.csv")]) == 0
    assert "AUROC" not in capsys.readouterr().out


def test_confidence_alone_can_be_fitted(tmp_path, capsys):
    path = made_up.store(tmp_path / "s.zarr", made_up.dices(60), labels=("confidence",))
    out = tmp_path / "c.json"
    flags = [str(path), "--threshold", "0.6", "--out", str(out)]
    assert cli.main(["reliability", "fit", *flags]) == 0
    shown = capsys.readouterr().out
    assert "confidence (all)" in shown
    assert "misure" not in shown
    predict = ["reliability", "predict", str(out), str(path), "--csv", str(tmp_path / "p.csv")]
    assert cli.main(predict) == 0


@pytest.mark.parametrize(("name", "value"), [("dtype", "bfloat16"), ("pad", "edge")])
def test_a_sweep_computed_in_another_way_is_refused(name, value, fitted, tmp_path, capsys):
    other = made_up.store(tmp_path / "n.zarr", [0.5, 1.0], prefix="n", config={name: value})
    words = [name, f"and {value}", "sweep with the model and the settings it was fitted for"]
    refused(capsys, ["reliability", "predict", fitted, other], *words)


def test_a_sweep_without_any_features_is_refused(fitted, tmp_path, capsys):
    statuses = {0: Status.FAILED, 1: Status.FAILED}
    empty = made_up.store(tmp_path / "n.zarr", [0.5, 1.0], prefix="n", statuses=statuses)
    out = tmp_path / "p.csv"
    words = [empty, "n0 (disc) FAILED, n1 (disc) FAILED", "sweep images in which the model"]
    refused(capsys, ["reliability", "predict", fitted, empty, "--csv", out], *words)
    assert not out.exists()


def test_labels_on_one_side_have_no_auroc(fitted, tmp_path, capsys):
    new = made_up.store(tmp_path / "n.zarr", [0.9, 1.0], prefix="n")
    flags = [str(fitted), str(new), "--csv", str(tmp_path / "p.csv")]
    assert cli.main(["reliability", "predict", *flags]) == 0
    assert "AUROC: not defined, 2 of 2" in capsys.readouterr().out


def test_images_that_were_fitted_on_prove_nothing(trained, fitted, tmp_path, capsys):
    flags = [str(fitted), str(trained), "--csv", str(tmp_path / "p.csv")]
    assert cli.main(["reliability", "predict", *flags]) == 0
    assert "AUROC: not defined, the classifier was fitted on all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"truth": False}, ["no labels of the model's classes", "--store-labels"]),
        (
            {"labels": ("ate",)},
            ["no result describes a whole segment", "--explain and one", "misure, "],
        ),
        ({"pending": 60}, ["no explanation has features: im0 (disc) PENDING", "and 57 more"]),
        ({"dices": [1.0] * 60}, ["0 images have a true Dice below 0.6", "another threshold"]),
        ({"dices": [1.0] * 55 + [0.1] * 5}, ["5 images have a true Dice below 0.6, 10 are"]),
    ],
)
def test_sweeps_that_cannot_be_fitted(options, words, tmp_path, capsys):
    dices = options.pop("dices", made_up.dices(60))
    path = made_up.store(tmp_path / "s.zarr", dices, **options)
    flags = ["--threshold", "0.6", "--out", tmp_path / "c.json"]
    refused(capsys, ["reliability", "fit", path, *flags], path, *words)
    assert not (tmp_path / "c.json").exists()


def test_held_out_sweeps_that_prove_nothing(trained, tmp_path, capsys):
    flags = [trained, "--threshold", "0.6", "--out", tmp_path / "c.json", "--held-out"]
    refused(capsys, ["reliability", "fit", *flags, trained], "image im", "hold out other images")
    same = made_up.store(tmp_path / "a.zarr", [1.0] * 5, prefix="a")
    refused(capsys, ["reliability", "fit", *flags, same], "every true Dice is at least 0.6")
    other = {"misure": {"tau": 0.5}}
    other = made_up.store(tmp_path / "b.zarr", [1.0, 0.1], prefix="b", settings=other)
    refused(capsys, ["reliability", "fit", *flags, other], "not comparable", "misure.tau")


def test_arguments_that_make_no_sense(trained, fitted, tmp_path, capsys):
    refused(capsys, ["reliability", "fit"], "name at least one sweep")
    refused(capsys, ["reliability", "fit", trained, "--threshold", "1.5"], "threshold is 1.5")
    flags = [trained, "--threshold", "0.6", "--labels", "ate"]
    refused(capsys, ["reliability", "fit", *flags], "labels", "no features of ate, only of misure")
    refused(capsys, ["reliability"], "unknown command 'reliability'", "reliability fit")
    refused(capsys, ["reliability", "predict", tmp_path / "no.json"], "no.json")
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "x.csv"
    refused(capsys, ["reliability", "predict", fitted, trained, "--csv", out], "file")
