"""The ATE of blocks: Dice points, of which a flipped pixel moves some thousandths."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.agree.flips import FLIP_MARGINS, AteDoubt
from benchmarks.agree.kind import Kind, Ours, Subject
from benchmarks.agree.verdict import Bound, Validation, all_of, judge, largest
from benchmarks.arrays import Arrays, Inputs
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


class Ates(Kind):
    """Given draws; a block that differs is excused if doubtful pixels make either value."""

    peer = "pdcr"

    def arguments(self, explainer: Any, bundle: Bundle, inputs: Inputs, mesh: Mesh) -> tuple:
        """See `Kind.arguments`; the last is bool [B, rows, columns], the blocks to look at."""
        _, problem, _ = super().arguments(explainer, bundle, inputs, mesh)
        # Images are not dealt out to the devices here, their interventions are.
        problem = dataclasses.replace(problem, pool=None)
        shape = (len(inputs.images), *explainer.grid(inputs.images.shape[1:3]))
        given = (inputs.images, inputs.targets, inputs.draws)
        return explainer, problem, *replicate(given, mesh), np.ones(shape, bool)

    def program(self, arguments: tuple[Any, ...], mesh: Mesh) -> Any:

        def explain(explainer, problem, images, targets, draws, blocks):
            return explainer.explain(problem, images, targets, draws, mesh, blocks=blocks)

        return jax.jit(explain).lower(*arguments).compile()

    def arrays(self, ours: Ours, found: Explanation) -> Arrays:
        side, scores = ours.explainer.block_size, found.scores
        ate = np.asarray(found.attribution)[..., ::side, ::side]
        names = ("base_dice", "num_interventions")
        return {"ate": ate} | {name: np.asarray(scores[name]) for name in names}

    def compare(self, found: Arrays, expected: Arrays, subject: Subject) -> Validation:
        verdicts = {}
        for i in range(len(expected["ate"])):
            doubt = AteDoubt(
                logits=subject.logits,
                inputs=subject.inputs.one(i),
                settings=subject.explainer,
                margin=FLIP_MARGINS[subject.dtype],
            )
            one, other = ({k: v[i] for k, v in result.items()} for result in (found, expected))
            verdicts[f"image {i}"] = compare_one(one, other, doubt)
        return all_of(verdicts)


def compare_one(found: Any, expected: Any, doubt: AteDoubt | None = None) -> Validation:
    """Compare the blocks of one image, and the Dice of the untouched one.

    A block that differs is excused if pixels within the margin of 0.5 can make its ATE each of the
    two values; without `doubt` nothing is.

    Raises:
      ValueError: grids of different shape.
    """
    mine, other = found["ate"], expected["ate"]
    if mine.shape != other.shape:
        raise ValueError(f"grids {mine.shape} and {other.shape} are of different shape")
    diff = np.abs(mine - other).astype(np.float64)
    flips, kept = [], np.ones(diff.shape, bool)
    # Not "> tolerance": what is not a number differs.
    for row, column in np.argwhere(~(diff <= TOLERANCE)).tolist():
        nearest, excused = None, False
        if doubt is not None:
            nearest, possible = doubt.block(row, column)
            values = (float(mine[row, column]), float(other[row, column]))
            excused = nearest <= doubt.margin and all(possible(v, TOLERANCE) for v in values)
        kept[row, column] = not excused
        flips.append(
            {
                "block": [row, column],
                "diff": float(diff[row, column]),
                "nearest_to_half": nearest,
                "excused": excused,
            }
        )
    base_limit = TOLERANCE + (0.0 if doubt is None else doubt.base[1])
    base_diff = abs(float(found["base_dice"]) - float(expected["base_dice"]))
    return judge(
        Bound("Dice points", largest(diff[kept]), TOLERANCE),
        Bound("base Dice, difference", base_diff, base_limit),
        flips=flips,
        why=_WHY,
        measured={
            "blocks that are not 0": float(np.count_nonzero(other)),
            "interventions": float(found["num_interventions"]),
            "interventions expected": float(expected["num_interventions"]),
        },
    )
