"""`jaxseg-xai plan`."""

import dataclasses
import json

import pytest

from jaxseg_xai.cli import main as cli
from jaxseg_xai.cli import plan as plan_command
from jaxseg_xai.models import load_model
from jaxseg_xai.ops.sliding import SlidingWindow


@pytest.fixture(autouse=True)
def no_user_cache(monkeypatch):
    """`main` leaves the cache alone where the user has chosen one."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "chosen")


def plan(*flags):
    return cli.main(["plan", "--model", "triangle", *flags])


def test_plan_of_a_bundled_model(capsys):
    sizes = ("--height", "64", "--width", "48", "--block-size", "4", "--region-side", "8")
    assert plan(*sizes) == 0
    shown = capsys.readouterr().out
    assert "Image 64x48x3, blocks 4x4, region 8x8, 10 interventions at a time" in shown
    assert "encoder/0/conv1  convolution" in shown
    assert "times fewer" in shown


def test_plan_of_a_size_that_needs_padding(capsys):
    assert plan("--height", "33", "--pad", "edge") == 0
    assert "Image 48x256x3" in capsys.readouterr().out


def test_plan_of_a_volume(tmp_path, monkeypatch, capsys):
    (tmp_path / "nets.py").write_text(
        "import jax\n\n\ndef model(x):\n    return jax.numpy.concatenate([x, -x], -1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    about = {"callable": "nets:model", "class_names": ["dark", "organ"]}
    about |= {"input": {"rank": 3, "channels": 1, "multiple_of": 4}}
    (tmp_path / "model.json").write_text(json.dumps(about))
    sizes = ("--depth", "12", "--height", "16", "--width", "8", "--block-size", "4")
    flags = ("plan", "--model", str(tmp_path), *sizes, "--region-side", "8")
    assert cli.main(flags) == 0
    assert "Image 12x16x8x1, blocks 4x4x4, region 8x8x8, 10 " in capsys.readouterr().out
    assert cli.main([*flags, "--depth", "13"]) == 2
    assert "13x16x8 is not a multiple of the model's stride 4" in capsys.readouterr().err


def test_plan_of_a_model_that_sees_patches(monkeypatch, capsys):
    bundle = load_model("triangle")
    apply = SlidingWindow(network=bundle.segmenter.apply, patch=(32, 32), axes=(0, 1))
    slid = dataclasses.replace(bundle, segmenter=bundle.segmenter.replace(apply=apply))
    monkeypatch.setattr(plan_command, "load_model", lambda name, pad: slid)
    sizes = ("--height", "64", "--width", "96", "--block-size", "4", "--region-side", "8")
    assert plan(*sizes) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Sliding window: 4 of 15 patches are evaluated at most, in windows; 0.")
    assert "Image 32x32x3, blocks 4x4, region 8x8, 10 interventions at a time" in shown
    assert "Activations that are kept" in shown


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--region-side", "300"], "region of 300x300 pixels is larger than the image of 256x256"),
        (
            ["--width", "16", "--region-side", "16", "--block-size", "32"],
            "block of 32x32 pixels is larger",
        ),
        (["--region-side", "0"], "region_side is 0; it must be at least 1"),
        (["--height", "-4"], "height is -4; it must be at least 1"),
        (["--height", "33"], "not a multiple of the model's stride 16; set pad to"),
        (["--height", "16", "--width", "16"], "larger than the image of 16x16"),
    ],
)
def test_what_cannot_be_planned_is_one_line(capsys, flags, words):
    assert plan(*flags) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert words in error
