"""The process that reads damaged files: names of cases come in, what was wrong goes out.

A process of its own, since a decoder in C may crash, hang, or take all memory.
"""

import importlib
import json
import logging
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np

from jaxseg_xai.core.errors import JaxsegError
from tests.fuzz.mutations import mutate
from tests.fuzz.target import Refused, Target

#: What reading a damaged file of some kilobytes may take: seconds of a core, and bytes.
MOST_SECONDS, MOST_MEMORY = 5.0, 512 * 2**20
#: Letters of a line that a person still reads.
_MOST_LETTERS = 800


class Worker:
    """Damages files and reads them."""

    def __init__(self, targets: dict[str, Target], root: Path, noise: Path) -> None:
        """Make the sound files under `root`; what is printed goes to `noise`."""
        self._targets, self._root, self._noise = targets, root, noise
        self._sound: dict[str, dict[Path, bytes]] = {}
        self._others: list[bytes] = []
        for name, target in targets.items():
            folder = root / name
            folder.mkdir()
            target.make(folder)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            self._sound[name] = {path: path.read_bytes() for path in files}
            self._others.append(self._sound[name][files[0]])

    def run(self, case: str, keep: str = "") -> dict[str, str]:
        """Damage a file, read it, and mend it again.

        Args:
          case: TARGET:NUMBER; number 0 is the sound file.
          keep: a folder to which the damaged file is copied.

        Returns:
          What was done ("how"), what was said ("said"), what was wrong ("wrong"; "" if nothing).
        """
        name, _, number = case.rpartition(":")
        sound = self._sound[name]
        rng = np.random.default_rng([zlib.crc32(name.encode()), int(number)])
        path = list(sound)[rng.integers(len(sound))]
        content, how = sound[path], "sound"
        if int(number):
            content, how = mutate(content, self._others, rng)
        path.write_bytes(content)
        if keep:
            Path(keep, path.name).write_bytes(content)
        try:
            said, wrong = self._read(name, path)
        finally:
            path.write_bytes(sound[path])
        return {
            "how": f"{path.relative_to(self._root / name)}: {how}",
            "said": said,
            "wrong": wrong,
        }

    def _read(self, name: str, path: Path) -> tuple[str, str]:
        folder, said, wrong = self._root / name, "", []
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        memory, start = _memory("VmRSS"), time.process_time()
        try:
            self._targets[name].read(folder)
        except (JaxsegError, Refused) as error:
            reasons = error.args if isinstance(error, Refused) else [str(error)]
            said = reasons[0]
            known = (str(folder), path.name, path.name.split(".")[0])
            for reason in reasons:
                if not reason.isprintable() or len(reason) > _MOST_LETTERS:
                    wrong.append(f"not one line: {reason[:200]!r}")
                if not any(word in reason for word in known):
                    wrong.append(f"names no file: {reason}")
        except BaseException as error:
            wrong.append("".join(traceback.format_exception(error)))
        seconds, memory = time.process_time() - start, _memory("VmHWM") - memory
        if seconds > MOST_SECONDS:
            wrong.append(f"took {seconds:.1f} s")
        if memory > MOST_MEMORY:
            wrong.append(f"took {memory / 2**20:.0f} MB")
        if noise := self._noise.read_text(errors="replace"):
            wrong.append(f"printed {noise}")
            os.truncate(self._noise, 0)
        return said, "\n".join(wrong)


def _memory(what: str) -> int:
    """Bytes that the process has, "VmRSS", or had at most, "VmHWM"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def main() -> None:
    """Answer each case on standard input in a line of JSON on standard output.

    The argument is the module that has `TARGETS`.
    """
    warnings.simplefilter("always")
    ours = logging.getLogger("jaxseg_xai")
    ours.propagate = False
    ours.addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory() as folder, os.fdopen(os.dup(1), "w") as answers:
        noise, root = Path(folder, "noise"), Path(folder, "files")
        root.mkdir()
        printed, errors = os.open(noise, os.O_WRONLY | os.O_CREAT | os.O_APPEND), os.dup(2)
        os.dup2(printed, 1)
        worker = Worker(importlib.import_module(sys.argv[1]).TARGETS, root, noise)
        os.truncate(noise, 0)
        os.dup2(printed, 2)
        print("ready", file=answers, flush=True)
        largest = _memory("VmSize") + 4 * MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (largest, largest))
        try:
            for line in sys.stdin:
                print(json.dumps(worker.run(**json.loads(line))), file=answers, flush=True)
        finally:
            os.dup2(errors, 2)


if __name__ == "__main__":
    main()
