"""Two sets of records side by side: what differs by more than the noise."""

import dataclasses
import math
from collections.abc import Sequence

from benchmarks.harness.pool import pool, work_of
from benchmarks.harness.record import Machine, Record
from jaxseg_xai.core.errors import ConfigError

# A case is slower when its median rose by more than 5 times the combined spread of the two sets, by
# more than 2 %, and by more than what did not change: the peers' times, and the GEMM peak.
#
# Spread is half the interquartile range; combined, the root of the sum of the squares, as shares of
# the medians. The medians of twice five repetitions of the same work, with normal or exponential
# noise, differ by more than that (in one direction) in 1 of 300 comparisons, so a comparison of
# 17 cases cries wolf once in twenty (simulated, 400 000 pairs). Two or three repetitions know
# their noise so badly that the same rarity takes more spreads, and one does not know it at all.
#
# Repetitions in a row do not see a machine drift between two runs. The peers and the peak, measured
# beside ours in both, do; pooled runs (`harness.pool`) do, too. The 2 % are for quartiles of five
# that happen to lie close together.
_SPREADS = 5.0
_SPREADS_OF_FEW = {1: math.inf, 2: 29.0, 3: 6.6}
_FLOOR = 0.02
#: Measured peaks of the machine itself that differ by more than this are worth a warning.
_DRIFT = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of a case in both sets: our median seconds, or a peer's time over ours."""

    case: str
    peer: str  # "" for our seconds
    before: float
    after: float
    noise: float  # what the change must exceed to mean anything, as a share of `before`

    @property
    def change(self) -> float:
        """After over before, minus 1."""
        return self.after / self.before - 1

    @property
    def agrees(self) -> bool:
        """Whether the change is within the noise."""
        return abs(self.change) <= self.noise

    @property
    def slower(self) -> bool:
        """Whether our seconds rose beyond the noise."""
        return not self.peer and self.change > self.noise

    def text(self) -> str:
        """One row of the table."""
        name, unit = (f"  {self.peer} / ours", " ") if self.peer else (self.case, "s")
        verdict = "" if self.agrees else "SLOWER" if self.slower else "differs"
        row = f"{name:22}{self.before:>9.4g} {unit}{self.after:>9.4g} {unit}"
        return f"{row}{self.change:>+9.1%}{self.noise:>8.1%}  {verdict}".rstrip()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """All cases that both sets have, and what to mind when reading them."""

    changes: tuple[Change, ...]  # seconds of every case, followed by its ratios to the peers
    broken: tuple[str, ...]  # cases whose validation passed before and does not now
    warnings: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing got slower or wrong; ratios also change with the peers."""
        return not self.broken and not any(change.slower for change in self.changes)

    def text(self) -> str:
        """Warnings, a table, and how much of it agrees."""
        lines = [f"warning: {warning}" for warning in self.warnings]
        lines.append(f"{'case':22}{'before':>11}{'after':>11}{'change':>9}{'noise':>8}")
        lines += [change.text() for change in self.changes]
        lines += [f"{case}: VALIDATION FAILS, and passed before" for case in self.broken]
        for what, peers in (("medians", False), ("ratios", True)):
            agree = [change.agrees for change in self.changes if bool(change.peer) == peers]
            if agree:
                lines.append(f"{sum(agree)} of {len(agree)} {what} agree within the noise")
        return "\n".join(lines)


def compare(before: Sequence[Record], after: Sequence[Record]) -> Comparison:
    """Match records by case and settings.

    Several runs of a set are pooled; where they cannot be, the last counts.
    """
    (old, mixed), (new, also_mixed) = map(_by_work, (before, after))
    warnings = [*mixed, *also_mixed]
    for one, other, which in ((old, new, "first"), (new, old, "second")):
        warnings += [
            f"{_name(one[key])}: only in the {which} file" for key in one if key not in other
        ]
    both = [(old[key], new[key]) for key in old if key in new]
    if not both:
        raise ConfigError("the files have no case with the same settings in common")
    for one, other in both:
        warnings += [f"{one.case}: {text}" for text in _machines(one.machine, other.machine)]
    changes = tuple(change for one, other in both for change in _changes(one, other))
    warnings += [
        f"{change.case}: one repetition knows no noise; run it with --repetitions 5"
        for change in changes
        if math.isinf(change.noise)
    ]
    worse = [one.case for one, other in both if one.validation.passed > other.validation.passed]
    unique = tuple(dict.fromkeys(warnings))
    return Comparison(changes=changes, broken=tuple(worse), warnings=unique)


def _changes(one: Record, other: Record) -> list[Change]:
    """Our seconds, and the ratios to every peer that both records have."""
    figures = {"": [record.timings["ours"].median for record in (one, other)]}
    figures |= {p: [one.ratios[p], other.ratios[p]] for p in one.ratios if p in other.ratios}
    return [
        Change(case=one.case, peer=peer, before=a, after=b, noise=_noise((one, other), peer))
        for peer, (a, b) in figures.items()
    ]


def _noise(records: tuple[Record, Record], peer: str) -> float:
    """By which share a figure may change without meaning anything; see the top of this file."""
    who = ("ours", peer) if peer else ("ours",)
    fewest = min(len(record.timings[name].seconds) for record in records for name in who)
    spreads = _SPREADS_OF_FEW.get(fewest, _SPREADS)
    if math.isinf(spreads):
        return math.inf
    shares = [
        record.ratio_spread(peer) / record.ratios[peer]
        if peer
        else record.timings["ours"].relative_spread
        for record in records
    ]
    return max(spreads * math.hypot(*shares), _FLOOR, 0.0 if peer else _drift(*records))


def _drift(one: Record, other: Record) -> float:
    """The largest change of what did not change, as a share; 0 where there is nothing."""
    dtype = str(one.settings["dtype"])
    pairs = [tuple(record.machine.gemm_flops.get(dtype) for record in (one, other))]
    if one.versions.get("torch") == other.versions.get("torch"):
        peers = set(one.ratios) & set(other.ratios)
        pairs += [tuple(r.timings[who].median for r in (one, other)) for who in peers]
    return max((abs(b / a - 1) for a, b in pairs if a and b), default=0.0)


def _by_work(records: Sequence[Record]) -> tuple[dict[tuple, Record], list[str]]:
    """The pooled records by their work, and what was left out, in words."""
    found, warnings = {}, []
    for record in sorted(pool(records), key=lambda record: record.date):
        earlier = found.get(work_of(record))
        if earlier is not None:
            warnings.append(
                f"{_name(earlier)}: the run of {earlier.date} is left out: a later one is of "
                "another commit, machine, versions or peers, or files differed from the commit"
            )
        found[work_of(record)] = record
    return found, warnings


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
    peaks = {f"GEMM peak ({d})": (a, other.gemm_flops.get(d)) for d, a in one.gemm_flops.items()}
    peaks["memory bandwidth"] = (one.bandwidth, other.bandwidth)
    return [
        f"the machine's own {name} changed by {b / a - 1:+.0%} between the runs"
        for name, (a, b) in peaks.items()
        if b is not None and abs(b / a - 1) > _DRIFT
    ]
