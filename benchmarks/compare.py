"""Two sets of records side by side: what is slower than it was, beyond the noise."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from benchmarks.record import Machine, Record, Timing
from jaxseg_xai.errors import ConfigError

# A case is slower when its median rose by more than 5 times the combined spread of the two runs,
# and by more than 2 %.
#
# Spread is half the interquartile range; combined, the root of the sum of the squares. The medians
# of twice five repetitions of the same work, with normal or exponential noise, differ by more than
# that (in one direction) in 1 of 300 comparisons, so a comparison of seven cases cries wolf once in
# forty (simulated, 200 000 pairs); with more repetitions it is rarer. The 2 % are for quartiles of
# five that happen to lie close together: five repetitions in a row do not see slow drift.
_SPREADS = 5.0
_FLOOR = 0.02
#: Measured peaks of the machine itself that differ by more than this are worth a warning.
_DRIFT = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """One case in both sets.

    Attributes:
      case: its name.
      before: median seconds.
      after: median seconds.
      change: after over before, minus 1.
      noise: what the change must exceed, as a share of `before`.
      slower: whether it does.
      broken: whether validation passed before and does not now.
    """

    case: str
    before: float
    after: float
    change: float
    noise: float
    slower: bool
    broken: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """All cases that both sets have, and what to mind when reading them."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing got slower or wrong."""
        return not any(change.slower or change.broken for change in self.changes)

    def text(self) -> str:
        """Warnings and a table."""
        lines = [f"warning: {warning}" for warning in self.warnings]
        lines.append(f"{'case':16}{'before':>11}{'after':>11}{'change':>9}{'noise':>8}")
        for change in self.changes:
            verdict = "SLOWER" * change.slower + " VALIDATION FAILS" * change.broken
            lines.append(
                f"{change.case:16}{change.before:>9.4g} s{change.after:>9.4g} s"
                f"{change.change:>+9.1%}{change.noise:>8.1%}  {verdict}".rstrip()
            )
        return "\n".join(lines)


def compare(before: Sequence[Record], after: Sequence[Record]) -> Comparison:
    """Match records by case and settings, the last of a set where it has several."""
    old, new = ({_key(record): record for record in records} for records in (before, after))
    warnings = [f"{_name(old[key])}: only in the first file" for key in old if key not in new]
    warnings += [f"{_name(new[key])}: only in the second file" for key in new if key not in old]
    both = [(old[key], new[key]) for key in old if key in new]
    if not both:
        raise ConfigError("the files have no case with the same settings in common")
    for one, other in both:
        warnings += [f"{one.case}: {text}" for text in _machines(one.machine, other.machine)]
    return Comparison(
        changes=tuple(_change(one, other) for one, other in both),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def noise(before: Timing, after: Timing) -> float:
    """Seconds by which the median may rise without meaning anything; see the top of this file."""
    return max(_SPREADS * math.hypot(before.spread, after.spread), _FLOOR * before.median)


def _change(one: Record, other: Record) -> Change:
    before, after = one.timings["ours"], other.timings["ours"]
    allowed = noise(before, after)
    return Change(
        case=one.case,
        before=before.median,
        after=after.median,
        change=after.median / before.median - 1,
        noise=allowed / before.median,
        slower=after.median - before.median > allowed,
        broken=one.validation.passed and not other.validation.passed,
    )


def _key(record: Record) -> tuple[Any, ...]:
    # How often and against whom it was timed changes nothing about our work.
    apart = ("peer", "repetitions")
    settings = tuple(sorted((k, v) for k, v in record.settings.items() if k not in apart))
    return record.case, settings


def _name(record: Record) -> str:
    return f"{record.case} ({', '.join(f'{k}={v}' for k, v in record.settings.items())})"


def _machines(one: Machine, other: Machine) -> list[str]:
    """What makes seconds of two machines incomparable."""
    found = []
    for name in ("cpu", "cores", "device_kind", "num_devices"):
        a, b = getattr(one, name), getattr(other, name)
        if a != b:
            found.append(f"different machines, {name} {a} and {b}: look at the ratios instead")
    if found:
        return found
    peaks = {
        f"GEMM peak ({dtype})": (one.gemm_flops[dtype], other.gemm_flops.get(dtype))
        for dtype in one.gemm_flops
    }
    peaks["memory bandwidth"] = (one.bandwidth, other.bandwidth)
    for name, (a, b) in peaks.items():
        if b is not None and abs(b / a - 1) > _DRIFT:
            found.append(f"the machine's own {name} changed by {b / a - 1:+.0%} between the runs")
    return found
