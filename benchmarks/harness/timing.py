"""Repetitions that take turns, so that a machine that drifts does not decide who is faster."""

import contextlib
import dataclasses
import functools
import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from benchmarks.harness.record import Timing
from benchmarks.harness.settings import COMPILED
from benchmarks.harness.turns import alone

#: Seconds before another contender's turn: threads of the one before (OpenMP's in PyTorch) keep
#: spinning on the cores for up to 0.2 s after their work is done.
_PAUSE = 0.3
#: Repetitions of a slow contender, at least: three have a spread that says something.
_MIN_REPETITIONS = 3
#: Energy is read off a counter that moves every 0.1 s: over less than this it is not reported.
_METERED_SECONDS = 1.0
_LOG = logging.getLogger("benchmarks")
#: Begins what `phase` says; `phase_of` looks for it.
_MARK = "phase: "


def phase(what: str) -> None:
    """Say what begins now, on standard error: a run that is stopped has said where it was."""
    _LOG.info("%s%s", _MARK, what)


def show_phases() -> None:
    """Print what `phase` says, with the time of day."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    _LOG.handlers = [handler]
    _LOG.setLevel(logging.INFO)


def phase_of(output: str) -> str:
    """The last phase that some output names; "starting" where it names none."""
    said = [line.partition(_MARK)[2] for line in output.splitlines() if _MARK in line]
    return said[-1] if said else "starting"


def timed(function: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[Any, float]:
    """The result, ready, and the seconds it took."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments, **named))
    return result, time.perf_counter() - start


def compile_apart(function: Any, *arguments: Any) -> tuple[Any, float]:
    """A jitted function compiled for these arguments, and the seconds that took."""
    phase("compiling")
    return timed(lambda: function.lower(*arguments).compile())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """How often and for how long contenders run.

    Attributes:
      repetitions: of each, at least 1.
      short_seconds: work that takes less than this is done again and again in a repetition until
        that has lasted so long, and counts with its mean: the speed of a machine wanders from
        second to second, and repetitions that are over in half of one would not see it.
      slow_seconds: contenders other than "ours" that would need longer than this for all of their
        repetitions are repeated fewer times, but at least three.
    """

    repetitions: int
    short_seconds: float = 0.0
    slow_seconds: float = float("inf")

    def rounds(self, name: str, seconds: float) -> int:
        """Repetitions of a contender whose work takes so long."""
        if name == "ours" or seconds * self.repetitions <= self.slow_seconds:
            return self.repetitions
        return max(min(_MIN_REPETITIONS, self.repetitions), int(self.slow_seconds / seconds))


def interleave(
    contenders: Mapping[str, Callable[[], Any]], pace: Pace
) -> tuple[dict[str, Timing], dict[str, Any]]:
    """Run the contenders in turn: ours, original, tuned, ours, original, ...

    Args:
      contenders: name -> all of its work; arrays that it returns are waited for. Each is called
        once beforehand, untimed.
      pace: how often, and for how long.

    Returns:
      (name -> timing, name -> what its first call returned).
    """
    results, rounds = {}, {}
    meters = {name: _Meter() for name in contenders}
    for name, run in contenders.items():
        phase(f"first call of {name}")
        # PyTorch tries out its convolutions then; what `torch.compile` does is the host's work.
        with contextlib.nullcontext() if name in COMPILED else alone():
            results[name], seconds = timed(run)
        rounds[name] = pace.rounds(name, seconds)
    phase("timing")
    with alone():
        for turn in range(pace.repetitions):
            for name, run in contenders.items():
                if turn < rounds[name]:
                    if len(contenders) > 1:
                        time.sleep(_PAUSE)
                    meters[name].repeat(run, pace.short_seconds)
    phase("validating")
    return {name: meter.timing() for name, meter in meters.items()}, results


class _Meter:
    """Repetitions of one contender: the seconds of each, and the energy of all."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.calls, self.total, self.energy = 0, 0.0, 0.0

    def repeat(self, run: Callable[[], Any], at_least: float) -> None:
        """One repetition: as many calls as it takes to fill the time; their mean counts."""
        before, calls, total = joules(), 0, 0.0
        while calls == 0 or total < at_least:
            total += timed(run)[1]
            calls += 1
        self.seconds.append(total / calls)
        self.calls, self.total = self.calls + calls, self.total + total
        self.energy += (joules() or 0.0) - (before or 0.0)

    def timing(self) -> Timing:
        """What was found."""
        known = joules() is not None and self.total >= _METERED_SECONDS
        return Timing.of(self.seconds, self.energy / self.calls if known else None)


def joules() -> float | None:
    """Energy that the GPUs of JAX have used since their driver was loaded; None where not known."""
    read = _energy_counter()
    return None if read is None else read()


@functools.cache
def _energy_counter() -> Callable[[], float] | None:
    """Reads NVIDIA's counters (`pip install nvidia-ml-py`)."""
    if jax.default_backend() != "gpu":
        return None
    try:
        import pynvml  # pyright: ignore[reportMissingImports]

        pynvml.nvmlInit()
        numbers = [device.local_hardware_id or 0 for device in jax.local_devices()]
        counters = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in numbers]

        def read() -> float:
            return sum(map(pynvml.nvmlDeviceGetTotalEnergyConsumption, counters)) / 1000

        read()
    except Exception:  # no library, no driver, or GPUs without a counter
        return None
    return read
