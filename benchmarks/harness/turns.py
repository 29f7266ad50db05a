"""Programs that share a device take turns: while one is measured, the others stand still.

Starting, compiling and checking take most of a case's minute and leave the device idle. So the set
runs several cases side by side, in processes of their own. One that measures stops the others
(SIGSTOP) and lets them go on afterwards, so that it has device and host to itself. Outside of a set
nothing is shared and nothing is stopped.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

#: Environment variable: the folder in which those who share a device say that they are there.
FOLDER = "BENCHMARKS_TURNS"
_LOCK, _MEASURED, _THERE = "lock", "measured", ".there"


def join() -> None:
    """Take part, before the device is used; waits while another is measured."""
    if (folder := _shared()) is not None:
        with FileLock(folder / _LOCK):
            (folder / f"{os.getpid()}{_THERE}").touch()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Everyone else stands still; waits for its turn."""
    folder = _shared()
    if folder is None:
        yield
        return
    with FileLock(folder / _LOCK):
        (folder / _MEASURED).write_text(str(os.getpid()))
        others = _present(folder) - {os.getpid()}
        _signal(others, signal.SIGSTOP)
        try:
            yield
        finally:
            (folder / _MEASURED).unlink(missing_ok=True)
            _signal(others, signal.SIGCONT)


def measured(folder: Path) -> int | None:
    """The process that is measured now."""
    try:
        return int((folder / _MEASURED).read_text())
    except (FileNotFoundError, ValueError):  # nobody, or somebody is just writing it
        return None


def leave(folder: Path, process: int) -> None:
    """Of a process that has ended: those that it may have stopped go on."""
    (folder / f"{process}{_THERE}").unlink(missing_ok=True)
    if measured(folder) == process:
        (folder / _MEASURED).unlink(missing_ok=True)
        _signal(_present(folder), signal.SIGCONT)


def _shared() -> Path | None:
    return Path(os.environ[FOLDER]) if FOLDER in os.environ else None


def _present(folder: Path) -> set[int]:
    return {int(file.stem) for file in folder.glob(f"*{_THERE}")}


def _signal(processes: set[int], what: int) -> None:
    """To the processes and their children: each is the head of a group."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, what)
