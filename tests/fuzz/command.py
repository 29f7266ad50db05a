"""Runs many cases in workers, and says what was wrong with which."""

import argparse
import collections
import importlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).parents[2]
TARGETS = "tests.fuzz.targets"
#: A worker that says nothing for so long hangs; its own limit is in seconds of a core.
SILENCE = 60.0


class Finding(NamedTuple):
    """A case that went wrong."""

    case: str
    how: str
    wrong: str

    def __str__(self) -> str:
        """With the command that repeats it."""
        again = f"python -m tests.fuzz --only {self.case} --keep FOLDER"
        return f"{self.case} ({self.how}): {self.wrong}\n  again: {again}"


class Process:
    """A worker process, started anew where it died."""

    def __init__(self, targets: str = TARGETS) -> None:
        """With the targets of a module."""
        self._targets = targets
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, case: str, keep: str = "") -> dict[str, str]:
        """What a worker says of a case; that it died or hangs, if so."""
        process = self._process = self._process or _started(self._targets)
        _pipe(process.stdin).write(json.dumps({"case": case, "keep": keep}).encode() + b"\n")
        _pipe(process.stdin).flush()
        ready, _, _ = select.select([process.stdout], [], [], SILENCE)
        if ready and (answer := _pipe(process.stdout).readline()):
            return json.loads(answer)
        self.close()
        end = f"the process died ({process.returncode})" if ready else f"silent for {SILENCE} s"
        return {"how": "?", "said": "", "wrong": end}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _started(targets: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.worker", targets],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if not _pipe(process.stdout).readline():
        process.communicate()
        raise RuntimeError("the worker of the fuzzer did not start; its traceback is above")
    return process


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def run(
    cases: Sequence[str], num_workers: int = 2, targets: str = TARGETS
) -> Iterator[tuple[str, dict[str, str]]]:
    """The answers to cases, as they come."""
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[str, dict[str, str]] | Exception] = queue.SimpleQueue()
    for case in [*cases, *[None] * num_workers]:
        waiting.put(case)

    def work() -> None:
        process = Process(targets)
        try:
            while (case := waiting.get()) is not None:
                answers.put((case, process.ask(case)))
        except Exception as error:  # nobody would see it in a thread, and wait for ever
            answers.put(error)
        finally:
            process.close()

    for _ in range(num_workers):
        threading.Thread(target=work, daemon=True).start()
    for _ in cases:
        answer = answers.get()
        if isinstance(answer, Exception):
            raise answer
        yield answer


def findings(cases: Sequence[str], num_workers: int = 2) -> list[Finding]:
    """What went wrong."""
    return [
        Finding(case, answer["how"], answer["wrong"])
        for case, answer in run(cases, num_workers)
        if answer["wrong"]
    ]


def cases_of(shares: dict[str, float], num: int, first: int = 1) -> list[str]:
    """`num` cases over all targets, each by its share; numbers from `first` on."""
    total = sum(shares.values())
    return [
        f"{name}:{number}"
        for name, share in shares.items()
        for number in range(first, first + round(num * share / total))
    ]


def main() -> int:
    """See the package."""
    formats = importlib.import_module(TARGETS).TARGETS
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--num", type=int, default=10_000, help="how many files")
    parser.add_argument("--first", type=int, default=1, help="number of the first of each format")
    parser.add_argument("--targets", nargs="*", default=list(formats), help="the formats")
    parser.add_argument("--only", default="", help="one case, TARGET:NUMBER")
    parser.add_argument("--keep", default="", help="folder for the damaged file of --only")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.only:
        answer = Process().ask(given.only, given.keep)
        print("\n".join(f"{key}: {value}" for key, value in answer.items()))
        return int(bool(answer["wrong"]))
    shares = {name: formats[name].share for name in given.targets}
    cases, wrong, read = cases_of(shares, given.num, given.first), [], collections.Counter()
    for case, answer in run(cases, given.workers):
        read["refused" if answer["said"] else "read"] += 1
        if answer["wrong"]:
            wrong.append(Finding(case, answer["how"], answer["wrong"]))
            print(wrong[-1], flush=True)
    told = ", ".join(f"{count} {what}" for what, count in read.items())
    print(f"{len(cases)} files of {len(shares)} formats: {told}; {len(wrong)} went wrong")
    return int(bool(wrong))
