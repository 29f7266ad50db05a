"""SIGTERM: what was computed is kept, and the process ends in time with 75, "resume me"."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxseg_xai.cli import main as cli
from jaxseg_xai.cli import terminate
from jaxseg_xai.store import ZarrStore
from tests import tiny

STUCK = """
import ctypes, os, signal, threading
from jaxseg_xai.cli import terminate

terminate._PATIENCE = 0.3
with terminate.resumable():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    # A computation that no signal interrupts: another thread takes it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ctypes.CDLL(None).sleep(60)
"""


def test_a_sweep_that_is_told_to_end_is_resumed(tmp_path, monkeypatch, capsys):
    images = tiny.write_images(tmp_path / "images", ["i0", "i1", "i2"])
    model, out = tiny.write_model(tmp_path / "model"), tmp_path / "s.zarr"
    flags = ["--model", str(model), "--data.source", str(images), "--out", str(out)]
    flags += [*tiny.flags(["misure"]), "--explain", "misure", "--classes", "bright"]
    write = ZarrStore.write

    def told_to_end(self, label, row, *rest, **options):
        write(self, label, row, *rest, **options)
        if row == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)  # longer than the signal takes

    with monkeypatch.context() as patch:
        patch.setattr(ZarrStore, "write", told_to_end)
        start = time.monotonic()
        assert cli.main(["sweep", *flags]) == 75
        assert time.monotonic() - start < 25
    assert capsys.readouterr().err.endswith("told to end; the same command continues\n")
    assert list(ZarrStore.open(out).pending("misure")) == [2]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert cli.main(["sweep", *flags]) == 0


BUSY = """
import atexit, time
from jaxseg_xai.cli import main

atexit.register(time.sleep, 60)  # devices that are busy when a process ends
main.main = lambda: 75
main.command_line()
"""


def test_who_was_told_to_end_waits_for_no_device():
    process = subprocess.run([sys.executable, "-c", BUSY], timeout=50)
    assert process.returncode == terminate.EXIT_RESUME


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_computation_that_does_not_end_is_left():
    process = subprocess.run([sys.executable, "-c", STUCK], timeout=60)
    assert process.returncode == terminate.EXIT_RESUME
