"""A case in a process of its own, which is killed when its time is over."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import turns
from benchmarks.harness.timing import phase_of

#: Seconds that a process gets to say where it is before it is killed.
_LAST_WORDS = 3.0


class CaseProcess:
    """`python -m benchmarks run` beside others.

    Attributes:
      seconds: for which it ran; those in which it stood still for another do not count.
      code: its exit code; None while it runs, and if it was killed.
    """

    def __init__(
        self,
        options: Sequence[str],
        variables: Mapping[str, str],
        log: Path,
        turns: Path,
        programs: Path,
    ) -> None:
        """Start it.

        Args:
          options: of `run`.
          variables: of its environment, beside those of this process.
          log: file for what it prints.
          turns: folder that is shared with the others; see `turns`.
          programs: folder in which what is compiled is kept.
        """
        self.seconds, self.code = 0.0, None
        self._log, self._turns, self._looked = log, turns, time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            # faulthandler prints where every thread is when the process is asked to abort.
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-m", "benchmarks", "run", *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_environment(turns, programs.absolute()), **variables},
                start_new_session=True,
            )

    def over(self, limit: float) -> bool:
        """Whether it has ended; it is killed once it has run for so many seconds."""
        now = time.monotonic()
        if turns.measured(self._turns) in (None, self._process.pid):
            self.seconds += now - self._looked
        self._looked = now
        self.code = self._process.poll()
        if self.code is None and self.seconds < limit:
            return False
        if self.code is None:
            self._stop()
        turns.leave(self._turns, self._process.pid)
        return True

    @property
    def ended(self) -> bool:
        """Whether there is no such process any more."""
        return self._process.poll() is not None

    @property
    def phase(self) -> str:
        """The last one that it has named."""
        return phase_of(self._log.read_text())

    @property
    def why(self) -> str:
        """The last line of its output; of a killed one the place in our code where it was."""
        said = self._log.read_text()
        if self.code is None:
            return _place_of(said)
        lines = [line for line in said.splitlines() if line.strip()]
        return (lines or ["no output"])[-1][-300:]

    def _stop(self) -> None:
        """Ask for last words, then kill the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGCONT)  # it may stand still
            self._process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _environment(folder: Path, programs: Path) -> dict[str, str]:
    """What is compiled is kept for the next call; nobody takes memory that others need."""
    return {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(programs / "jax"),
        "TORCHINDUCTOR_CACHE_DIR": str(programs / "torch"),
        "PYTHONUNBUFFERED": "1",
        turns.FOLDER: str(folder),
    }


def _place_of(said: str) -> str:
    """The innermost place in our code that the traceback of the main thread names."""
    main = said.rpartition("most recent call first")[2]
    found = re.search(r'File ".*?/((?:benchmarks|jaxseg_xai)/\S+)", line (\d+) in (\S+)', main)
    return f"{found[1]}:{found[2]} in {found[3]}" if found else ""
