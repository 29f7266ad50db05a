"""Verdicts that several cases need, and several verdicts as one."""

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from benchmarks import agreement, validation
from benchmarks.flips import FLIP_MARGIN, Logits, MisureDoubt, distance_to_half
from benchmarks.inputs import REFERENCE
from benchmarks.peers.results import AttributionResult, MisureResult
from benchmarks.validation import Validation
from jaxseg_xai.core.types import Explanation, Status
from jaxseg_xai.models.bundle import load_model
from jaxseg_xai.models.predict import Dtype

_Result = TypeVar("_Result", MisureResult, AttributionResult)

#: Logits, as a share of the largest: float32 rounds at 6e-8 and bfloat16 at 4e-3, through some
#: twenty layers that each add up hundreds of products.
_LOGITS = {"float32": 2e-5, "tensorfloat32": 1e-2, "bfloat16": 5e-2}
#: How near to 0.5 a probability must come for its pixel to fall on either side.
FLIP_MARGINS: dict[str, float] = {
    "float32": FLIP_MARGIN,
    "tensorfloat32": 1e-2,
    "bfloat16": 3e-2,
}
#: Scores in [0, 1]: rounding; a pixel on the threshold in one of eight views moves less. In few
#: bits many pixels fall otherwise; seen up to 0.05.
_SCORES, _ROUGH_SCORES = 1e-3, 0.1
#: Of MiSuRe in fewer bits against float32. The share kept: seen up to 0.26 of our search, whose
#: steps all follow from hard decisions, and up to 0.004 of the published loss; keeping all is off
#: by 0.66 or more.
_ROUGH_DICE, _ROUGH_KEPT = 0.05, 0.4


def compare_logits(found: Any, expected: Any, dtype: Dtype, *, rounded: int = 1) -> Validation:
    """Logits [B, H, W, K] of two implementations; flips are counted pixels, not listed.

    `rounded` says how many of the two were computed in `dtype`, not in float32.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    largest = float(np.max(np.abs(found - expected)))
    share = _LOGITS[dtype] * (1 if dtype == "float32" else rounded)
    tolerance = share * float(np.max(np.abs(expected)))
    flipped = np.argmax(found, axis=-1) != np.argmax(expected, axis=-1)
    return Validation(
        max_abs_diff=largest,
        tolerance=tolerance,
        unit="logits",
        passed=largest <= tolerance,  # not a number: does not pass
        flips=[],
        why=f"rounding of {dtype} through the layers: {share:g} of the largest logit",
        measured={"pixels that change their label": float(flipped.sum())},
    )


def frozen_logits(dtype: Dtype) -> Validation:
    """Our U-Net on eight triangle images against PyTorch's frozen logits."""
    bundle, data = load_model(REFERENCE, dtype=dtype), agreement.triangles()
    logits = np.asarray(jax.jit(bundle.predict)(bundle.variables, data["images"]))
    expected = np.stack([np.zeros_like(data["logits"]), data["logits"]], axis=-1)
    return compare_logits(logits, expected, dtype)


def compare_misure(
    found: MisureResult,
    expected: MisureResult,
    doubt: MisureDoubt | None,
    dtype: Dtype,
    stable: np.ndarray | None = None,
) -> Validation:
    """`validation.compare_misure`, with other bounds for what was not computed in float32."""
    if dtype == "float32":
        return validation.compare_misure(found, expected, doubt, stable)
    shares = [_share_kept(result) for result in (found, expected)]
    kept = np.nanmax(np.abs(shares[0] - shares[1]), initial=0.0)
    finite = np.array_equal(np.isnan(found.dice_minimal), np.isnan(expected.dice_minimal))
    dice = np.nanmax(np.abs(found.dice_minimal - expected.dice_minimal), initial=0.0)
    return Validation(
        max_abs_diff=float(dice),
        tolerance=_ROUGH_DICE,
        unit="final Dice",
        passed=bool(finite and dice <= _ROUGH_DICE and kept <= _ROUGH_KEPT),
        flips=[],
        why=f"{dtype} keeps few bits: pixels near the threshold change, and the masks with them; "
        "the Dice that they keep and the share of the sufficient region do not by much",
        measured={
            "share of the sufficient region kept, difference": float(kept),
            "share of the sufficient region kept, difference (at most)": _ROUGH_KEPT,
        },
    )


def _share_kept(result: MisureResult) -> np.ndarray:
    """Area of the minimal region over that of the sufficient one, [N]; 0 where there is none."""
    sufficient = result.sufficient.sum((1, 2))
    return (result.mask > 0.5).sum((1, 2)) / np.maximum(sufficient, 1)


def compare_maps(
    found: AttributionResult,
    expected: AttributionResult,
    logits: Logits,
    images: np.ndarray,
    class_indices: np.ndarray,
    moved: np.ndarray,
    tolerance: float,
    why: str,
) -> Validation:
    """Maps [N, H, W] of two implementations, by |difference| / |expected| of each image (L2).

    The maps are of the pixels where the class is predicted. An image in which they differ, all of
    these pixels within the margin of 0.5, is excused and left out, and so is one whose map rounding
    moves by more than a third of the tolerance: a ReLU or a maximum is undecided there. Half of the
    images at least must remain.

    Args:
      found: what is checked.
      expected: what it should be.
      logits: of the model in float32; only asked where the predicted pixels differ.
      images: float32 [N, H, W, C].
      class_indices: int [N].
      moved: float [N], `relative_l2` of `found` and what it is for `shaken` images, at most.
      tolerance: of the relative difference.
      why: what it rests on.
    """
    flips, kept = [], np.ones(len(images), bool)
    for i, differing in enumerate(found.segment != expected.segment):
        if differing.any():
            distance = distance_to_half(logits(images[i][None])[0], int(class_indices[i]))
            kept[i] = False
            flips.append(
                {
                    "image": i,
                    "diff": float(differing.sum()),
                    "nearest_to_half": float(distance[differing].min()),
                    "excused": bool(distance[differing].max() <= FLIP_MARGIN),
                }
            )
    steady = ~np.isfinite(moved) | (moved <= tolerance / 3)
    kept &= steady
    relative = relative_l2(found.attribution[kept], expected.attribution[kept])
    largest = float(np.max(relative, initial=0.0))
    scores = _scores(found, expected, kept, _SCORES)
    return Validation(
        max_abs_diff=largest,
        tolerance=tolerance,
        unit="relative L2",
        passed=bool(
            2 * kept.sum() >= len(kept)
            and largest <= tolerance
            and all(flip["excused"] for flip in flips)
            and _within(scores)
        ),
        flips=flips,
        why=why,
        measured={
            "images": float(len(kept)),
            "maps that are not 0": float(expected.attribution.any((1, 2)).sum()),
            "maps that rounding moves": float((~steady).sum()),
            **scores,
        },
    )


def compare_rough_maps(
    found: AttributionResult, expected: AttributionResult, tolerance: float, why: str
) -> Validation:
    """`compare_maps` where few bits were kept: other pixels are explained, and no map left out."""
    largest = float(np.max(relative_l2(found.attribution, expected.attribution)))
    scores = _scores(found, expected, np.ones(len(expected.segment), bool), _ROUGH_SCORES)
    return Validation(
        max_abs_diff=largest,
        tolerance=tolerance,
        unit="relative L2",
        passed=largest <= tolerance and _within(scores),  # not a number: does not pass
        why=why,
        measured={
            "pixels that change their label": float((found.segment != expected.segment).sum()),
            **scores,
        },
    )


def _scores(
    found: AttributionResult, expected: AttributionResult, kept: np.ndarray, bound: float
) -> dict[str, float]:
    """Largest difference of every score over the images `kept` [N], and its bound."""
    measured = {}
    for name, values in expected.scores.items():
        difference = np.abs(found.scores[name] - values)[kept]
        measured[name] = float(np.max(difference, initial=0.0))
        measured[f"{name} (at most)"] = bound
    return measured


def _within(measured: dict[str, float]) -> bool:
    """Whether all that have a bound keep it; what is not a number does not."""
    bounds = {name: f"{name} (at most)" for name in measured}
    return all(measured[n] <= measured[bound] for n, bound in bounds.items() if bound in measured)


def relative_l2(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|found - expected| / |expected| of images, float64 [N]; infinite for what is no number."""
    difference, size = (
        np.sqrt(np.sum(np.square(values, dtype=np.float64), axis=(1, 2)))
        for values in (found.astype(np.float64) - expected, expected)
    )
    relative = difference / np.where(size > 0, size, 1.0)
    return np.where(np.isnan(relative), np.inf, relative)


def images_of(result: _Result, which: slice) -> _Result:
    """Some images of a result."""
    return type(result)(**jax.tree.map(lambda values: values[which], vars(result)))


def explained(found: Explanation) -> Validation:
    """Whether every image has an explanation, even if the sufficient region was not reached."""
    usable = np.isin(np.asarray(found.status), [int(Status.OK), int(Status.NOT_REACHED)])
    left = float((~usable).sum())
    return Validation(
        max_abs_diff=left,
        tolerance=0.0,
        unit="images without an explanation",
        passed=left == 0,
        why="the model finds something in each of them",
    )


def failed(why: str) -> Validation:
    """The verdict where there is nothing to compare."""
    infinite = float("inf")
    return Validation(
        max_abs_diff=infinite, tolerance=0.0, unit="", passed=False, flips=[], why=why
    )


def all_of(found: Mapping[str, Validation]) -> Validation:
    """The worst of several verdicts, passed if all are; flips and figures say whose they are."""
    name, worst = max(found.items(), key=lambda item: item[1].excess)
    flips = [
        flip | {"against": f"{name}: {flip['against']}" if "against" in flip else name}
        for name, v in found.items()
        for flip in v.flips
    ]
    measured = {
        f"{name}: {what}": value for name, v in found.items() for what, value in v.measured.items()
    }
    measured |= {f"{name}: largest difference": v.max_abs_diff for name, v in found.items()}
    return Validation(
        max_abs_diff=worst.max_abs_diff,
        tolerance=worst.tolerance,
        unit=worst.unit,
        passed=all(v.passed for v in found.values()),
        flips=flips,
        why=f"against {', '.join(found)}; the figures are those against {name}: {worst.why}",
        measured=measured,
    )
