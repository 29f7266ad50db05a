"""Repetitions that take turns, so that a machine that drifts does not decide who is faster."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from benchmarks.record import Timing

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


def interleave(
    contenders: Mapping[str, Callable[[], Any]],
    repetitions: int,
    *,
    slow_seconds: float = float("inf"),
) -> tuple[dict[str, Timing], dict[str, Any]]:
    """Run the contenders in turn: ours, original, tuned, ours, original, ...

    Args:
      contenders: name -> all of its work; arrays that it returns are waited for. Each is called
        once beforehand, untimed.
      repetitions: of each, at least 1.
      slow_seconds: contenders other than "ours" that would need longer than this for all of their
        repetitions are repeated fewer times, but at least three.

    Returns:
      (name -> timing, name -> what its first call returned).
    """
    results, rounds = {}, {}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for name, run in contenders.items():
        results[name], seconds = timed(run)
        rounds[name] = repetitions
        if name != "ours" and seconds * repetitions > slow_seconds:
            fewest = min(_MIN_REPETITIONS, repetitions)
            rounds[name] = max(fewest, int(slow_seconds / seconds))
    for turn in range(repetitions):
        for name, run in contenders.items():
            if turn < rounds[name]:
                if len(contenders) > 1:
                    time.sleep(_PAUSE)
                found[name].append(timed(run)[1])
    return {name: Timing.of(seconds) for name, seconds in found.items()}, results
