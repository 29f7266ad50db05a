"""Programs that share a device: who is measured has it alone."""

import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.harness import turns

#: Counts up in a file, as often as it can.
_COUNTS = """
    import sys, time
    from pathlib import Path
    from benchmarks.harness import turns
    turns.join()
    for number in range(10**6):
        Path(sys.argv[1]).write_text(str(number))
        time.sleep(0.01)
"""
_PATIENCE = 20.0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Shared by this process and those that it starts."""
    monkeypatch.setenv(turns.FOLDER, str(tmp_path / "turns"))
    (tmp_path / "turns").mkdir()
    return tmp_path / "turns"


@pytest.fixture
def counter(folder, tmp_path):
    """A process that counts, and what it has counted to."""
    file = tmp_path / "count"
    program = "\n".join(line[4:] for line in _COUNTS.splitlines())
    process = subprocess.Popen([sys.executable, "-c", program, str(file)], start_new_session=True)
    wait_until(file.is_file)
    yield process, lambda: file.read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_others_stand_still_and_go_on(folder, counter):
    _, count = counter
    with turns.alone():
        assert turns.measured(folder) == os.getpid()
        time.sleep(0.1)  # what it was just writing
        before = count()
        time.sleep(0.3)
        assert count() == before
    assert turns.measured(folder) is None
    wait_until(lambda: count() not in ("", before))


def test_whom_a_killed_process_stopped_goes_on(folder, counter):
    process, count = counter
    os.killpg(process.pid, signal.SIGSTOP)
    (folder / "measured").write_text("4194305")  # above the largest number of a process
    before = count()
    turns.leave(folder, 4194305)
    wait_until(lambda: count() not in ("", before))


def test_nothing_is_shared_outside_of_a_set(monkeypatch):
    monkeypatch.delenv(turns.FOLDER, raising=False)
    turns.join()
    with turns.alone():
        pass


def wait_until(true):
    """Fails after some seconds."""
    end = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)
