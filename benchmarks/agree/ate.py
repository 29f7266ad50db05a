"""The ATE of blocks: Dice points, of which a flipped pixel moves some thousandths."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.differences import distance_to_half, largest
from benchmarks.agree.kind import Kind, Ours, Subject
from benchmarks.agree.verdict import Bound, Validation, all_of, flip, judge
from benchmarks.arrays import Arrays, Inputs, some
from jaxseg_xai.core.types import Explanation
from jaxseg_xai.devices.mesh import replicate
from jaxseg_xai.models import Bundle

#: Dice points.
TOLERANCE = 1e-3
_WHY = (
    "float32 Dice points of one segmentation differ by about 1e-5; one flipped pixel in 50 patches "
    "and a region of 32x32 moves an ATE by 2e-3 or more, so beyond 1e-3 something was decided "
    "otherwise"
)
#: Outcomes [N] and how far doubtful pixels move each [N], in Dice points; smallest distance to 0.5.
_Outcomes = tuple[np.ndarray, np.ndarray, float]


class Ates(Kind):
    """Given draws; a block that differs is excused if doubtful pixels make either value."""

    peer = "pdcr"

    def arguments(self, explainer: Any, bundle: Bundle, inputs: Inputs, mesh: Mesh) -> tuple:
        """See `Kind.arguments`; the last are the blocks."""
        _, problem, _ = super().arguments(explainer, bundle, inputs, mesh)
        # Images are not dealt out to the devices here, their interventions are.
        problem = dataclasses.replace(problem, pool=None)
        blocks, given = inputs.blocks, (inputs.images, inputs.targets, inputs.draws)
        if blocks is None:
            shape = (len(inputs.images), *explainer.grid(inputs.images.shape[1:-1]))
            blocks = np.ones(shape, bool)
        return explainer, problem, *replicate(given, mesh), blocks

    def program(self, arguments: tuple[Any, ...], mesh: Mesh) -> Any:

        def explain(explainer, problem, images, targets, draws, blocks):
            return explainer.explain(problem, images, targets, draws, mesh, blocks=blocks)

        return jax.jit(explain).lower(*arguments).compile()

    def arrays(self, ours: Ours, found: Explanation) -> Arrays:
        every, scores = slice(None, None, ours.explainer.block_size), found.scores
        ate = np.asarray(found.attribution)
        ate = ate[:, *(every,) * (ate.ndim - 1)]
        names = ("base_dice", "num_interventions")
        return {"ate": ate} | {name: np.asarray(scores[name]) for name in names}

    def compare(self, found: Arrays, expected: Arrays, subject: Subject) -> Validation:
        verdicts = {}
        for i in range(len(expected["ate"])):
            image = subject.some(slice(i, i + 1))
            verdicts[f"image {i}"] = compare_one(some(found, i), some(expected, i), image)
        return all_of(verdicts)


def compare_one(found: Any, expected: Any, subject: Subject) -> Validation:
    """Compare the blocks of one image, and the Dice of the untouched one.

    A block that differs is excused if pixels within the margin of 0.5 can make its ATE each of the
    two values.
    """
    mine, other = found["ate"], expected["ate"]
    diff = np.abs(mine - other).astype(np.float64)
    flips, kept, base = [], np.ones(diff.shape, bool), _outcomes(subject, subject.inputs.images)
    # Not "> tolerance": what is not a number differs.
    for place in map(tuple, np.argwhere(~(diff <= TOLERANCE)).tolist()):
        nearest, excused = _doubtful(subject, base, place, (mine[place], other[place]))
        kept[place] = not excused
        flips.append(flip(diff[place], nearest, excused, block=list(place)))
    base_diff = abs(float(found["base_dice"]) - float(expected["base_dice"]))
    return judge(
        Bound("Dice points", largest(diff[kept]), TOLERANCE),
        Bound("base Dice, difference", base_diff, TOLERANCE + float(base[1][0])),
        flips=flips,
        why=_WHY,
        measured={
            "blocks that are not 0": float(np.count_nonzero(other)),
            "interventions": float(found["num_interventions"]),
            "interventions expected": float(expected["num_interventions"]),
        },
    )


def _doubtful(
    subject: Subject, base: _Outcomes, place: tuple[int, ...], values: tuple[float, float]
) -> tuple[float, bool]:
    """What is in doubt about one block of the one image.

    (The smallest distance to 0.5 in any of its interventions and the base; whether doubtful pixels
    can make each of the values its ATE.)
    """
    ate, inputs, side = subject.explainer, subject.inputs, subject.explainer.block_size
    number = np.ravel_multi_index(place, ate.grid(inputs.images.shape[1:-1]))
    patches, *drawn = inputs.draws
    screen, full = (np.asarray(which)[0, number] for which in drawn)
    patches = np.asarray(patches)[np.concatenate([screen, full])]
    images = np.repeat(inputs.images, len(patches), axis=0)
    block = images[:, *(slice(k * side, (k + 1) * side) for k in place)]
    block[...] = patches[:, *map(slice, block.shape[1:-1])]
    outcome, reach, nearest = _outcomes(subject, images)
    effect, reach = outcome - base[0], reach + base[1]
    tried, tried_reach = np.abs(effect[: len(screen)]), reach[: len(screen)]
    mean, mean_reach = effect[len(screen) :].mean(), reach[len(screen) :].mean()
    may_stop = len(screen) > 0 and bool((tried - tried_reach < ate.threshold).all())
    may_pass = len(screen) == 0 or bool((tried + tried_reach >= ate.threshold).any())

    def possible(value: float) -> bool:
        if value == 0:
            return may_stop or bool(abs(mean) - mean_reach < ate.threshold)
        return may_pass and bool(abs(value - mean) <= mean_reach + TOLERANCE)

    nearest = min(nearest, base[2])
    return nearest, nearest <= subject.margin and all(map(possible, values))


def _outcomes(subject: Subject, images: np.ndarray) -> _Outcomes:
    """Of images [N, *S, C] with the target of the one image."""
    targets, wanted = subject.inputs.targets, int(subject.inputs.targets.class_index[0])
    region = np.asarray(targets.region[0])
    truth = np.asarray(targets.reference[0])[region]
    logits = subject.logits(images)[:, region]
    segment, distance = logits.argmax(-1) == wanted, distance_to_half(logits, wanted)
    both, total = (segment & truth).sum(1), segment.sum(1) + truth.sum()
    doubtful = (distance <= subject.margin).sum(1)
    # A pixel that flips adds or takes at most 1 of |a and b| and 1 of |a| + |b|.
    reach = 200 * doubtful / np.maximum(total - doubtful, 1)
    return 200 * both / (total + 1e-10), reach, float(distance.min())
