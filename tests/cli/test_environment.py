"""The command line where it is not alone: pipes that close, no terminal, JAX set up by others."""

import os
import sys

import jax
import pytest

from jaxseg_xai.cli import main as cli
from jaxseg_xai.cli.streams import reliable_streams
from jaxseg_xai.core.progress import progress_bar
from tests import tiny


def test_work_goes_on_when_nobody_reads_on(tmp_path, monkeypatch):
    """`jaxseg-xai explain ... | head -1`."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with reliable_streams():
            print("first")
            os.close(read)
            for _ in range(3):
                print("nobody reads this", flush=True)
            (tmp_path / "done").touch()
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_was_closed_before(stream, monkeypatch):
    def both(_):
        print("out")
        print("err", file=sys.stderr)

    monkeypatch.setattr(sys, stream, None)
    monkeypatch.setitem(cli.LISTINGS, "sources", (both, ""))
    assert cli.main(["sources"]) == 0
    assert getattr(sys, stream) is None


def test_a_device_that_is_not_there_is_one_line(monkeypatch, capsys, tmp_path):
    def missing():
        raise AssertionError  # as JAX without GPUs does

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", missing)
    flags = ["--model", "triangle", "--data.source", "triangle", "--explain", "grad_cam"]
    assert cli.main(["sweep", *flags, "--out", str(tmp_path / "s.zarr")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxseg-xai: JAX finds no device; unset JAX_PLATFORMS (it is 'cuda')")
    assert error.count("\n") == 1


def test_other_peoples_double_precision_is_switched_off(tmp_path, capsys):
    model = tiny.write_model(tmp_path / "model")
    images = tiny.write_images(tmp_path / "images", ["i0", "i1"])
    flags = ["--model", model, "--data.source", images, "--classes", "bright"]
    flags += [*tiny.flags(("misure", "ate")), "--explain", "misure", "ate"]
    jax.config.update("jax_enable_x64", True)
    try:
        assert cli.main(["sweep", *map(str, flags), "--out", str(tmp_path / "s.zarr")]) == 0
    finally:
        jax.config.update("jax_enable_x64", False)
    assert capsys.readouterr().out.count("2 OK") == 2


def test_no_bar_in_a_log_file(capsys):
    assert list(progress_bar(range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_bar_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    list(progress_bar(range(3)))
    assert "3/3" in capsys.readouterr().err
    list(progress_bar(range(3), shown=False))
    assert capsys.readouterr().err == ""
