"""Both stages of MiSuRe: equal regions, and losses, areas and masks up to amplified rounding."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.agree.differences import (
    MASK_TOLERANCE,
    differences,
    distance_to_half,
    largest,
    masks_off,
)
from benchmarks.agree.kind import Kind, Ours, Subject
from benchmarks.agree.verdict import Bound, Validation, flip, judge
from benchmarks.arrays import Arrays
from jaxseg_xai.core.types import Explanation
from jaxseg_xai.ops.dilation import dilate, ellipse

#: Relative difference of the loss or area at any iteration of stage 2.
TRACE_TOLERANCE = 1e-3
#: Share of the mask's pixels that may differ by more than 0.01, where rounding alone moves at most
#: a third of that.
MASK_SHARE = 2e-3
#: Relative difference of the area of the final masks (the sum of their values).
AREA_TOLERANCE = 1e-2
#: Hard Dice of what is segmented from the final mask.
DICE_TOLERANCE = 2e-3
#: Of fewer bits against float32. The share kept: seen up to 0.26 of our search, whose steps all
#: follow from hard decisions, and up to 0.004 of the published loss; keeping all is off by 0.66 or
#: more.
_ROUGH_DICE, _ROUGH_KEPT = 0.05, 0.4
_WHY = (
    "stage 1 is exact; in stage 2 frameworks add up in another order, and Adam amplifies it: as "
    "long as one framework's losses (or areas) stay within 1e-4 under rounding, those of two do "
    "within 1e-3. Masks are compared pixel by pixel where rounding leaves them alone, and else by "
    "their area and Dice"
)
_STAGE_1 = ("segment", "sufficient", "dilations", "dice_trace")


class Misures(Kind):
    """`expected` says in `stable` and `moved` what rounding does; see `peers.misure.rounding`."""

    peer = "misure"

    def arrays(self, ours: Ours, found: Explanation) -> Arrays:
        scores, maps, traces = found.scores, found.maps, found.traces
        return {
            "segment": np.asarray(ours.inputs.targets.segment),
            "sufficient": np.asarray(maps["sufficient_region"]),
            "dilations": np.nan_to_num(scores["num_dilations"]).astype(np.int32),
            "dice_trace": np.asarray(traces["dice"]),
            "mask": np.asarray(found.attribution),
            "trace": np.asarray(traces["loss" if "loss" in traces else "area_search"]),
            "dice_minimal": np.asarray(scores["dice_minimal"]),
        }

    def compare(self, found: Arrays, expected: Arrays, subject: Subject) -> Validation:
        if subject.dtype != "float32":
            return _compare_roughly(found, expected, subject.dtype)
        return compare_stages(found, expected, subject)


def compare_stages(found: Arrays, expected: Arrays, subject: Subject) -> Validation:
    """Compare both stages of N images.

    Stage 1 must be equal. An image in which it is not, for pixels within the margin of 0.5, is
    excused and its stage 2 left out: it starts from another region. One image at least must remain,
    with what came after one step or more. Of the others the first `expected["stable"]` iterations
    are compared (default: all), and where that is all of them the final area and Dice; the mask,
    too, where rounding alone moves a share `expected["moved"]` of the pixels (default: 0) that is
    small.
    """
    flips = _stage_1(found, expected, subject)
    same = np.array([flip is None for flip in flips])
    count, steps = expected["trace"].shape
    stable = expected.get("stable", np.full(count, steps))
    early = np.arange(steps) < stable[:, None]
    whole = same & (stable == steps)
    alone = whole & (expected.get("moved", np.zeros(count)) <= MASK_SHARE / 3)
    compared = same & (early[:, 1:] & np.isfinite(expected["trace"][:, 1:])).any(1)
    off = differences(found["trace"], expected["trace"], relative=True)[early & same[:, None]]
    areas = [np.maximum(r["mask"].sum(_space(r), dtype=np.float64), 1) for r in (found, expected)]
    area = largest(differences(*areas, relative=True)[whole])
    share = masks_off(found["mask"], expected["mask"])[alone].sum() / max(alone.sum(), 1)
    dice = largest(differences(found["dice_minimal"], expected["dice_minimal"])[whole])
    return judge(
        Bound("stage 2, relative", largest(off), TRACE_TOLERANCE),
        Bound("images without a stage 2 to compare", float(not compared.any()), 0.0),
        Bound(f"share of mask off by > {MASK_TOLERANCE}", float(share), MASK_SHARE),
        Bound("area of the mask, relative", area, AREA_TOLERANCE),
        Bound("final Dice, difference", dice, DICE_TOLERANCE),
        flips=[one for one in flips if one is not None],
        why=_WHY,
        measured={
            "images": float(count),
            "images whose stage 2 was compared": float(compared.sum()),
            "images whose final area and Dice were compared": float(whole.sum()),
            "images whose mask was compared": float(alone.sum()),
            "mask, largest difference": largest(np.abs(found["mask"] - expected["mask"])[alone]),
        },
    )


def compare_stage_1(found: Arrays, expected: Arrays, subject: Subject) -> Validation:
    """Compare stage 1 alone, as `compare_stages` does."""
    flips = _stage_1(found, expected, subject)
    listed = [one for one in flips if one is not None]
    left = float(sum(not one["excused"] for one in listed))
    return judge(
        Bound("images with another stage 1", left, 0.0),
        flips=listed,
        why="hard decisions are equal but where a pixel is on the threshold",
        measured={"images": float(len(flips))},
    )


def _compare_roughly(found: Arrays, expected: Arrays, dtype: str) -> Validation:
    """For what was not computed in float32."""
    shares = [  # area of the minimal region over that of the sufficient one, [N]
        (result["mask"] > 0.5).sum(_space(result))
        / np.maximum(result["sufficient"].sum(_space(result)), 1)
        for result in (found, expected)
    ]
    kept, dice = largest(np.abs(shares[0] - shares[1])), "dice_minimal"
    return judge(
        Bound("final Dice", largest(differences(found[dice], expected[dice])), _ROUGH_DICE),
        Bound("share of the sufficient region kept, difference", kept, _ROUGH_KEPT),
        why=f"{dtype} keeps few bits: pixels near the threshold change, and the masks with them; "
        "the Dice that they keep and the share of the sufficient region do not by much",
    )


def _space(result: Arrays) -> tuple[int, ...]:
    """The axes of its masks [N, *S] but the first."""
    return tuple(range(1, result["mask"].ndim))


def _stage_1(found: Arrays, expected: Arrays, subject: Subject) -> list[dict[str, Any] | None]:
    """What differs in stage 1 of each image."""
    return [_first_flip(found, expected, subject, i) for i in range(len(expected["segment"]))]


def _first_flip(
    found: Arrays, expected: Arrays, subject: Subject, index: int
) -> dict[str, Any] | None:
    """The first difference of stage 1 of one image, or None."""
    mine, other = ({name: r[name][index] for name in _STAGE_1} for r in (found, expected))
    inputs, region = subject.inputs.some(slice(index, index + 1)), other["segment"]

    def distance(images: np.ndarray) -> np.ndarray:
        wanted = int(inputs.targets.class_index[0])
        return distance_to_half(subject.logits(images.astype(np.float32)), wanted)[0]

    differing = mine["segment"] != region
    if differing.any():
        near = distance(inputs.images)[differing]
        excused = near.max() <= subject.margin
        return flip(differing.sum(), near.min(), excused, image=index, where="segment")
    off = ~(differences(mine["dice_trace"], other["dice_trace"]) <= 1e-6)
    if off.any():
        count = int(np.argmax(off))
        change = abs(float(mine["dice_trace"][count]) - float(other["dice_trace"][count]))
        element, grown = ellipse(subject.explainer.element_size, region.ndim), region
        for _ in range(count):
            grown = np.asarray(dilate(jnp.asarray(grown), element))
        near = distance(inputs.images * grown[..., None])
        pixels = (near <= subject.margin).sum()
        # One pixel moves a Dice with |Y| by at most 2 / |Y|; NaN, where only one goes on, fails.
        within = pixels and change <= 2 * pixels / max(region.sum(), 1) + 1e-6
        where = f"Dice after {count} dilations"
        return flip(change, near.min(), within, image=index, where=where)
    for name in ("dilations", "sufficient"):
        if wrong := np.sum(mine[name] != other[name]):
            return flip(wrong, None, False, image=index, where=name)
    return None
