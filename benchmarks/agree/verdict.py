"""Whether two implementations agree; what a hard threshold flips is counted, listed and bounded."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.flips import AteDoubt, MisureDoubt
from benchmarks.peers.results import AteResult, MisureResult

#: Dice points.
ATE_TOLERANCE = 1e-3
#: Relative difference of the loss or area at any iteration of stage 2.
TRACE_TOLERANCE = 1e-3
#: Changes of the images as large as the rounding of a network: each value's own, as a common one
#: leaves ties of ReLUs and maxima alone, and several, as one may miss what another upsets.
_ROUNDING, _SHAKES = 2.0**-20, 4
#: Of two runs of the same: what is less is rounding, not yet amplified.
_GROWTH = 1e-4
#: Mask values that differ by more than the first, as a share of all pixels.
MASK_TOLERANCE, MASK_SHARE = 1e-2, 2e-3
#: Hard Dice of what is segmented from the final mask.
DICE_TOLERANCE = 2e-3

_WHY_ATE = (
    "float32 Dice points of one segmentation differ by about 1e-5; one flipped pixel in 50 patches "
    "and a region of 32x32 moves an ATE by 2e-3 or more, so beyond 1e-3 something was decided "
    "otherwise"
)
_WHY_MISURE = (
    "stage 1 is exact; in stage 2 frameworks add up in another order, and Adam amplifies it: as "
    "long as one framework's losses (or areas) stay within 1e-4 under rounding, those of two do "
    "within 1e-3"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Validation:
    """The verdict on one comparison.

    Attributes:
      max_abs_diff: the largest difference that no doubtful pixel excuses.
      tolerance: the bound on it.
      passed: within this and all other bounds, and no flip without excuse.
      why: what the tolerance rests on.
      unit: of the difference and the tolerance.
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


def compare_ate(
    found: AteResult,
    expected: AteResult,
    doubt: AteDoubt | None = None,
    tolerance: float = ATE_TOLERANCE,
) -> Validation:
    """Compare the blocks of one image, and the Dice of the untouched one.

    A block that differs is excused if pixels within the margin of 0.5 can make its ATE each of the
    two values; without `doubt` nothing is.

    Args:
      found: what is checked.
      expected: what it should be.
      doubt: the interventions that both made.
      tolerance: in Dice points.

    Raises:
      ValueError: grids of different shape.
    """
    if found.ate.shape != expected.ate.shape:
        raise ValueError(f"grids {found.ate.shape} and {expected.ate.shape} are of different shape")
    diff = np.abs(found.ate - expected.ate).astype(np.float64)
    flips, kept = [], np.ones(diff.shape, bool)
    # Not "> tolerance": what is not a number differs.
    for row, column in np.argwhere(~(diff <= tolerance)).tolist():
        nearest, excused = None, False
        if doubt is not None:
            nearest, possible = doubt.block(row, column)
            values = (float(found.ate[row, column]), float(expected.ate[row, column]))
            excused = nearest <= doubt.margin and all(possible(v, tolerance) for v in values)
        kept[row, column] = not excused
        flips.append(
            {
                "block": [row, column],
                "diff": float(diff[row, column]),
                "nearest_to_half": nearest,
                "excused": excused,
            }
        )
    base_diff = abs(found.base_dice - expected.base_dice)
    base_bound = tolerance + (0.0 if doubt is None else doubt.base[1])
    largest = _largest(diff[kept])
    return Validation(
        max_abs_diff=largest,
        tolerance=tolerance,
        unit="Dice points",
        passed=largest <= tolerance and base_diff <= base_bound,
        flips=flips,
        why=_WHY_ATE,
        measured={
            "base Dice, difference": base_diff,
            "base Dice, difference (at most)": base_bound,
            "blocks that are not 0": float(np.count_nonzero(expected.ate)),
            "interventions": float(found.num_interventions),
            "interventions expected": float(expected.num_interventions),
        },
    )


def shaken(images: np.ndarray) -> list[np.ndarray]:
    """Images [N, H, W, C] with rounding errors.

    Iterations at which these move an implementation's own stage 2 by more than rounding tell
    nothing about another implementation, or another device.
    """
    draws = np.random.default_rng(0).uniform(-1, 1, (_SHAKES, *images.shape[1:]))
    return [(images * (1 + _ROUNDING * draw)).astype(images.dtype) for draw in draws]


def steady(trace: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """Leading iterations at which traces [N, iterations] differ by rounding only; int32 [N]."""
    off = np.any(
        [~(_differences(trace, other, relative=True) <= _GROWTH) for other in others], axis=0
    )
    return np.where(off.any(1), off.argmax(1), trace.shape[1]).astype(np.int32)


def compare_misure(
    found: MisureResult,
    expected: MisureResult,
    doubt: MisureDoubt | None = None,
    stable: np.ndarray | None = None,
) -> Validation:
    """Compare both stages for N images.

    Stage 1 must be equal. An image in which it is not, for pixels within the margin of 0.5, is
    excused and its stage 2 left out: it starts from another region. One image at least must remain,
    with what came after one step or more.

    Args:
      found: what is checked.
      expected: what it should be.
      doubt: the images and settings of both; without it nothing is excused.
      stable: int [N], leading iterations that are compared, from `stable_iterations`; masks and
        final Dice are compared where that is all of them. Default: all.

    Raises:
      ValueError: arrays of different shape.
    """
    for field in dataclasses.fields(MisureResult):
        shapes = [np.shape(getattr(result, field.name)) for result in (found, expected)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{field.name}: {shapes[0]} and {shapes[1]} are of different shape")
    listed = [_stage_1(found, expected, doubt, i) for i in range(len(expected.segment))]
    same = np.array([flip is None for flip in listed])
    flips = [flip for flip in listed if flip is not None]

    num_iterations = expected.trace.shape[1]
    stable = np.full(len(same), num_iterations) if stable is None else stable
    early = np.arange(num_iterations) < stable[:, None]
    whole = same & (stable == num_iterations)
    off = _differences(found.trace, expected.trace, relative=True)
    largest = _largest(off[early & same[:, None]])
    moved = (early[:, 1:] & np.isfinite(expected.trace[:, 1:])).any(1)
    mask = _differences(found.mask, expected.mask)[whole]
    dice = _differences(found.dice_minimal, expected.dice_minimal)[whole]
    measured = {
        "images": float(len(same)),
        "images whose stage 2 was compared": float((same & moved).sum()),
        "images whose mask was compared": float(whole.sum()),
        "share of mask off by > 0.01": float(np.mean(~(mask <= MASK_TOLERANCE)))
        if whole.any()
        else 0,
        "share of mask off by > 0.01 (at most)": MASK_SHARE,
        "mask, largest difference": _largest(mask),
        "final Dice, difference": _largest(dice),
        "final Dice, difference (at most)": DICE_TOLERANCE,
    }
    bounded = [name for name in measured if f"{name} (at most)" in measured]
    return Validation(
        max_abs_diff=largest,
        tolerance=TRACE_TOLERANCE,
        unit="stage 2, relative",
        passed=bool(
            (same & moved).any()
            and all(flip["excused"] for flip in flips)
            and largest <= TRACE_TOLERANCE
            and np.isfinite(_largest(mask))
            and all(measured[name] <= measured[f"{name} (at most)"] for name in bounded)
        ),
        flips=flips,
        why=_WHY_MISURE,
        measured=measured,
    )


def compare_stage_1(
    found: MisureResult, expected: MisureResult, doubt: MisureDoubt | None = None
) -> Validation:
    """Compare stage 1 alone, as `compare_misure` does."""
    listed = [_stage_1(found, expected, doubt, i) for i in range(len(expected.segment))]
    flips = [flip for flip in listed if flip is not None]
    left = float(sum(not flip["excused"] for flip in flips))
    return Validation(
        max_abs_diff=left,
        tolerance=0.0,
        unit="images with another stage 1",
        passed=left == 0,
        flips=flips,
        why="hard decisions are equal but where a pixel is on the threshold",
        measured={"images": float(len(listed))},
    )


def _stage_1(
    found: MisureResult, expected: MisureResult, doubt: MisureDoubt | None, index: int
) -> dict[str, Any] | None:
    """The first difference of stage 1 of one image, or None."""
    segments = found.segment[index], expected.segment[index]
    differing = segments[0] != segments[1]
    if differing.any():
        distance = None if doubt is None else doubt.segment(index)[differing]
        return _flip(index, "segment", differing.sum(), doubt, distance, within=True)
    traces = found.dice_trace[index], expected.dice_trace[index]
    off = ~(_differences(*traces) <= 1e-6)
    if off.any():
        count = int(np.argmax(off))
        change = abs(float(traces[0][count]) - float(traces[1][count]))
        distance = None if doubt is None else doubt.dilation(index, segments[1], count)
        pixels = 0 if doubt is None or distance is None else (distance <= doubt.margin).sum()
        # One pixel moves a Dice with |Y| by at most 2 / |Y|; NaN, where only one goes on, fails.
        within = bool(change <= 2 * pixels / max(segments[1].sum(), 1) + 1e-6)
        return _flip(index, f"Dice after {count} dilations", change, doubt, distance, within)
    for name in ("dilations", "sufficient"):
        off = np.sum(getattr(found, name)[index] != getattr(expected, name)[index])
        if off:
            return _flip(index, name, off, None, None, within=False)
    return None


def _flip(index, where, diff, doubt, distance, within) -> dict[str, Any]:
    """A flip whose pixels lie at `distance` from 0.5: all of them must be near, or just one."""
    near = False
    if distance is not None:
        near = bool((distance.max() if where == "segment" else distance.min()) <= doubt.margin)
    return {
        "image": index,
        "where": where,
        "diff": float(diff),
        "nearest_to_half": None if distance is None else float(distance.min()),
        "excused": near and within,
    }


def _differences(found: np.ndarray, expected: np.ndarray, relative: bool = False) -> np.ndarray:
    """|found - expected|, of `expected` if relative; 0 where both are NaN."""
    diff = np.abs(found.astype(np.float64) - expected)
    if relative:
        diff = diff / np.abs(expected)
    return np.where(np.isnan(found) & np.isnan(expected), 0.0, diff)


def _largest(diff: np.ndarray) -> float:
    """The largest; infinite if one is not a number, 0 if there are none."""
    return float(np.max(np.where(np.isnan(diff), np.inf, diff), initial=0.0))
