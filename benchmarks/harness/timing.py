"""Repetitions that take turns, so that a machine that drifts does not decide who is faster."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from benchmarks.harness.record import Timing

#: Seconds before another contender's turn: threads of the one before (OpenMP's in PyTorch) keep
#: spinning on the cores for up to 0.2 s after their work is done.
_PAUSE = 0.3
#: Repetitions of a slow contender, at least: three have a spread that says something.
_MIN_REPETITIONS = 3


def timed(function: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[Any, float]:
    """The result, ready, and the seconds it took."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments, **named))
    return result, time.perf_counter() - start


def compile_apart(function: Any, *arguments: Any, **named: Any) -> tuple[Any, float]:
    """A jitted function compiled for these arguments, and the seconds that took."""
    start = time.perf_counter()
    compiled = function.lower(*arguments, **named).compile()
    return compiled, time.perf_counter() - start


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
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for name, run in contenders.items():
        results[name], seconds = timed(run)
        rounds[name] = pace.rounds(name, seconds)
    for turn in range(pace.repetitions):
        for name, run in contenders.items():
            if turn < rounds[name]:
                if len(contenders) > 1:
                    time.sleep(_PAUSE)
                found[name].append(_mean_seconds(run, pace.short_seconds))
    return {name: Timing.of(seconds) for name, seconds in found.items()}, results


def _mean_seconds(run: Callable[[], Any], at_least: float) -> float:
    """Of one call, from as many as it takes to fill the time."""
    calls, total = 0, 0.0
    while calls == 0 or total < at_least:
        total += timed(run)[1]
        calls += 1
    return total / calls
