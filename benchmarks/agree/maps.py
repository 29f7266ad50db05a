"""Maps of one image each: Grad-CAM, integrated gradients, confidence, the ATE's gradient."""

import dataclasses
from typing import Any

import numpy as np

from benchmarks.agree.differences import distance_to_half, largest, relative_l2
from benchmarks.agree.kind import Kind, Ours, Subject
from benchmarks.agree.verdict import Bound, Validation, flip, judge
from benchmarks.arrays import Arrays
from jaxseg_xai.core.segmenter import Dtype
from jaxseg_xai.core.types import Explanation

#: Scores in [0, 1]: rounding; a pixel on the threshold in one of eight views moves less. In few
#: bits many pixels fall otherwise; seen up to 0.05.
_SCORES, _ROUGH_SCORES = 1e-3, 0.1


@dataclasses.dataclass(frozen=True)
class Maps(Kind):
    """Compared by |difference| / |expected| of each image (L2).

    An image in which other pixels are explained, all of them within the margin of 0.5, is excused
    and left out, and so is one whose map rounding moves by more than a third of the tolerance: a
    ReLU or a maximum is undecided there. Half of the images at least must remain. Where few bits
    were kept, other pixels are explained, and no map is left out.

    Attributes:
      peer: see `Kind`.
      tolerances: of the relative difference.
      why: what that in float32 rests on.
      scores: those that are compared, too.
    """

    peer: str  # pyright: ignore[reportIncompatibleVariableOverride]
    tolerances: dict[Dtype, float]
    why: str
    scores: tuple[str, ...] = ()
    moves = True

    def arrays(self, ours: Ours, found: Explanation) -> Arrays:
        scores = {name: found.scores[name] for name in self.scores}
        segment = ours.inputs.targets.segment
        return {"attribution": found.attribution, "segment": segment, **scores}

    def compare(self, found: Arrays, expected: Arrays, subject: Subject) -> Validation:
        tolerance, rough = self.tolerances[subject.dtype], subject.dtype != "float32"
        differing, count = found["segment"] != expected["segment"], len(found["segment"])
        space = tuple(range(1, found["segment"].ndim))
        broken = ~np.isfinite(found["attribution"]).all(space)
        moved = np.zeros(count) if subject.moved is None else subject.moved
        steady, flips = ~np.isfinite(moved) | (moved <= tolerance / 3), []
        if not rough:
            flips = [_flip(subject, i, differing[i]) for i in range(count) if differing[i].any()]
        kept = rough | (steady & ~differing.any(space))
        off = relative_l2(found["attribution"][kept], expected["attribution"][kept])
        scores = {name: np.abs(found[name] - expected[name])[kept] for name in self.scores}
        limit = _ROUGH_SCORES if rough else _SCORES
        few_bits = "keeps few bits: other pixels are explained, and gradients are rough"
        return judge(
            Bound("relative L2", largest(off), tolerance),
            Bound("maps that are not numbers", float(broken.sum()), 0.0),
            Bound("share of the images left out", float(1 - kept.mean()), 0.5),
            *(Bound(name, largest(off), limit) for name, off in scores.items()),
            why=f"{subject.dtype} {few_bits}" if rough else self.why,
            flips=flips,
            measured={
                "images": float(count),
                "maps that are not 0": float(expected["attribution"].any(space).sum()),
                "maps that rounding moves": float((~steady).sum()),
                "pixels that change their label": float(differing.sum()),
            },
        )


def _flip(subject: Subject, index: int, differing: np.ndarray) -> dict[str, Any]:
    """An image of which other pixels are explained, `differing` bool [*S]."""
    inputs = subject.inputs.some(slice(index, index + 1))
    distance = distance_to_half(subject.logits(inputs.images), int(inputs.targets.class_index[0]))
    distance = distance[0, differing]
    near = distance.max() <= subject.margin
    return flip(differing.sum(), distance.min(), near, image=index)


#: Grad-CAM in float32: rounding, seen up to 2e-6; more where channels cancel. Integrated gradients:
#: points of the path that rounding moves across kinks of ReLUs; seen up to 4e-4. Fewer bits: other
#: pixels are explained, too; in bfloat16 seen up to 0.56 (a faint map) and 0.46 on a CPU,
#: tensorfloat32 not yet measured. Entropy: rounding where classes are nearly as likely, seen up to
#: 1.2e-5; in bfloat16 0.2 on a CPU.
GRAD_CAM = Maps(
    peer="gradients",
    tolerances={"float32": 1e-4, "tensorfloat32": 0.2, "bfloat16": 0.8},
    why="rounding where channels cancel; another sign or layer gives 1 or more",
)
INTEGRATED_GRADIENTS = Maps(
    peer="gradients",
    tolerances={"float32": 3e-3, "tensorfloat32": 0.2, "bfloat16": 0.8},
    why="rounding that crosses kinks of ReLUs on the path; a sign gives 2",
)
CONFIDENCE = Maps(
    peer="confidence",
    tolerances={"float32": 1e-3, "tensorfloat32": 0.1, "bfloat16": 0.3},
    why="rounding of logits; logarithms to another base give 0.3",
    scores=(
        "confidence",
        "entropy",
        "confidence_band",
        "entropy_band",
        "soft_dice_confidence",
        "tta_disagreement",
        "tta_pairwise",
    ),
)

PERTURBATION = Maps(
    peer="perturbation",
    tolerances={"float32": 3e-3, "tensorfloat32": 0.3, "bfloat16": 0.8},
    why="pixels on the threshold in some of the masked images; another sign gives 2",
)


class _Gradient(Maps):
    """The ATE's gradient: its soft outcome has no segment that could differ."""

    def compare(self, found: Arrays, expected: Arrays, subject: Subject) -> Validation:
        return super().compare(found | {"segment": expected["segment"]}, expected, subject)


ATE_GRADIENT = _Gradient(
    peer="gradients",
    tolerances=INTEGRATED_GRADIENTS.tolerances,  # the same arithmetic
    why="rounding that crosses kinks of ReLUs; a sign gives 2",
)
