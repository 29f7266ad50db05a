"""What the model makes of changed images: every outcome, and what becomes of other classes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.outcomes import OUTCOMES, get_outcome

#: Outcomes in points, which a share of 1 is 100 of.
IN_POINTS = ("dice", "soft_dice", "mean_probability")
#: Beside the outcomes: 1 less the mean Dice of the other classes with what they were.
LEAKAGE = "leakage"


def outcomes_of(problem: Problem, example: Example, logits: jax.Array) -> dict[str, jax.Array]:
    """Every built-in outcome of logits [*S, K] of one image, and `LEAKAGE`; float32 [] each.

    What nobody uses of them is left out of the compiled program.
    """
    output = problem.segmenter.output
    found = {
        name: get_outcome(name).value(output, logits, example.target) for name in OUTCOMES.built_in
    }
    return found | {LEAKAGE: leakage(problem, example, logits)}


def evaluate_each(
    problem: Problem, example: Example, change: Callable[[jax.Array], jax.Array], numbers: jax.Array
) -> dict[str, jax.Array]:
    """`outcomes_of` the images [*S, C] that `change` makes of n numbers; float32 [n] each.

    One forward pass after the other: the runner has as many images at a time as fit the device.
    """

    def one(number: jax.Array) -> dict[str, jax.Array]:
        logits = problem.segmenter.logits(problem.variables, change(number)[None])[0]
        return outcomes_of(problem, example, logits)

    return jax.lax.map(one, numbers)


def leakage(problem: Problem, example: Example, logits: jax.Array) -> jax.Array:
    """1 - mean Dice of the other classes, segmented before and after; float32 [] in [0, 1].

    The mean is over the classes but the explained one that are segmented before or after, on all
    pixels of the image; NaN where there is none.
    """
    output = problem.segmenter.output
    own = jnp.asarray(example.own)
    before, after = (output.segment(x) & own for x in (example.logits, logits))
    axes = tuple(range(before.ndim - 1))
    both, one, other = (
        jnp.sum(x, axis=axes, dtype=jnp.float32) for x in (before & after, before, after)
    )
    counts = (one + other > 0) & (jnp.arange(before.shape[-1]) != example.target.class_index)
    dice = 2 * both / jnp.maximum(one + other, 1.0)
    return 1 - jnp.mean(dice, where=counts)
