"""Verdicts: figures with their bounds, what is broken, and several verdicts as one."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxseg_xai.core.types import Explanation, Status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """The verdict on one comparison.

    Attributes:
      max_abs_diff: the figure that decides: of a verdict that failed, the one that broke its bound
        (by the largest factor); else the main one, a largest difference without excuse.
      tolerance: the bound on it.
      passed: within this and all other bounds, and no flip without excuse.
      why: what the tolerance rests on.
      unit: of the figure and its bound.
      flips: where a hard decision differs: where, by how much, how near to 0.5 a probability comes
        there (None: not known), and whether that excuses it.
      measured: further figures, name -> value; those with a bound have it as "name (at most)".
    """

    max_abs_diff: float
    tolerance: float
    passed: bool
    why: str
    unit: str = ""
    flips: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    measured: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def excess(self) -> tuple[bool, float]:
        """Orders verdicts: those that fail last, then by how near they come to their bound."""
        return not self.passed, self.max_abs_diff / max(self.tolerance, 1e-30)


class Bound(NamedTuple):
    """A figure, what it is (or its unit), and the most that it may be."""

    what: str
    value: float
    limit: float

    @property
    def excess(self) -> float:
        """The figure over its limit; infinite for what is not a number."""
        return math.inf if math.isnan(self.value) else self.value / max(self.limit, 1e-30)


def judge(
    main: Bound,
    *others: Bound,
    why: str,
    flips: Sequence[dict[str, Any]] = (),
    measured: Mapping[str, float] | None = None,
) -> Validation:
    """The verdict on several bounds; it shows the main one, or the one that is broken by most."""
    bad = Bound("flips without an excuse", sum(not flip["excused"] for flip in flips), 0.0)
    bounds = (main, *others, *([bad] if flips else []))
    broken = [bound for bound in bounds if not bound.value <= bound.limit]
    shown = max(broken, key=lambda bound: bound.excess) if broken else main
    figures = dict(measured or {})
    for bound in bounds:
        if bound is not shown:
            figures[bound.what] = float(bound.value)
            figures[f"{bound.what} (at most)"] = float(bound.limit)
    value = math.inf if math.isnan(shown.value) else float(shown.value)
    return Validation(
        max_abs_diff=value,
        tolerance=float(shown.limit),
        passed=not broken,
        why=why,
        unit=shown.what,
        flips=list(flips),
        measured=figures,
    )


def flip(diff: Any, nearest: Any, excused: Any, **where: Any) -> dict[str, Any]:
    """A hard decision that differs, see `Validation`."""
    near = None if nearest is None else float(nearest)
    return where | {"diff": float(diff), "nearest_to_half": near, "excused": bool(excused)}


def all_of(found: Mapping[str, Validation]) -> Validation:
    """The worst of several verdicts, passed if all are; flips and figures say whose they are."""
    # Of equals one with a tolerance: of a comparison, not of a status.
    name, worst = max(found.items(), key=lambda item: (item[1].excess, item[1].tolerance > 0))
    flips = [
        flip | {"against": f"{name}: {flip['against']}" if "against" in flip else name}
        for name, v in found.items()
        for flip in v.flips
    ]
    measured = {
        f"{name}: {what}": value for name, v in found.items() for what, value in v.measured.items()
    }
    measured |= {f"{name}: largest difference": v.max_abs_diff for name, v in found.items()}
    return dataclasses.replace(
        worst,
        flips=flips,
        why=f"against {', '.join(found)}; the figures are those against {name}: {worst.why}",
        measured=measured,
    )


def explained(found: Explanation) -> Validation:
    """Whether every image has an explanation, even if the sufficient region was not reached."""
    usable = np.isin(np.asarray(found.status), [int(Status.OK), int(Status.NOT_REACHED)])
    left = Bound("images without an explanation", float((~usable).sum()), 0.0)
    return judge(left, why="the model finds something in each of them")
