"""Which blocks are worth exact interventions: a gradient as a screen, and PdCR's random screen.

A screen chooses blocks; each chosen block gets `num_patches` exact interventions, and the others
count as 0. What is lost are significant blocks, |ATE| >= threshold, that were not chosen. Costs are
in forward passes of the model, so that screens can be compared at equal cost. All on the host.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxseg_xai.core.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScreenComparison:
    """PdCR's random screen and the gradient's on the same blocks, at the same cost.

    Attributes:
      num_significant: blocks with |ATE| >= threshold.
      cost: forward passes of PdCR's screen and the interventions after it.
      random_recall: share of the significant blocks that the random screen lets through, NaN where
        there are none.
      random_share: share of all blocks that it lets through.
      gradient_recall: the same share for the gradient's largest blocks, as many as `cost` affords.
      gradient_share: how many those are, as a share of all blocks.
    """

    num_significant: int
    cost: float
    random_recall: float
    random_share: float
    gradient_recall: float
    gradient_share: float


def recall_of_screen(
    gradient_ate: np.ndarray,
    exact_ate: np.ndarray,
    budgets: Sequence[float],
    *,
    threshold: float = 0.02,
) -> np.ndarray:
    """Share of the significant blocks among the blocks of largest |gradient ATE|.

    Args:
      gradient_ate: [n], in points; the blocks that were not visited left out.
      exact_ate: [n], in points, from interventions without screening.
      budgets: shares of the blocks to intervene on, each in [0, 1]; a share of a block is none.
      threshold: a block is significant where |exact_ate| >= threshold > 0, in points.

    Returns:
      float64 [len(budgets)] in [0, 1]; NaN where no block is significant.

    Raises:
      DataError: other shapes, values that are not finite, a budget or threshold out of its range.
    """
    gradient_ate, exact_ate = _checked(gradient_ate, exact_ate, threshold)
    shares = np.asarray(budgets, np.float64)
    if shares.ndim != 1 or not ((shares >= 0) & (shares <= 1)).all():
        raise DataError(f"budgets are {budgets}; give shares of the blocks between 0 and 1")
    # Not one block fewer because of a share such as 0.29 (x 100 = 28.999...).
    counts = np.floor(shares * len(exact_ate) + 1e-9).astype(int)
    return _recall_of_largest(gradient_ate, np.abs(exact_ate) >= threshold, counts)


def compare_with_random_screen(
    gradient_ate: np.ndarray,
    screen_effects: np.ndarray,
    exact_ate: np.ndarray,
    *,
    gradient_cost: float,
    num_patches: int = 50,
    threshold: float = 0.02,
) -> ScreenComparison:
    """Recall of PdCR's random screen, and of the gradient for the same number of forward passes.

    PdCR (arXiv 2602.20511) tries s random patches on all n blocks and goes on where an effect
    reaches the threshold: n s + m `num_patches` forward passes for m blocks. The gradient's screen
    costs `gradient_cost` and spends the rest on interventions.

    Args:
      gradient_ate: [n], in points; the blocks that were not visited left out.
      screen_effects: [n, s], O(do) - O(x) of each screening patch, in points.
      exact_ate: [n], in points, from interventions without screening.
      gradient_cost: of the gradient, in forward passes (a backward pass counts about 2).
      num_patches: interventions on a block that passes, >= 1.
      threshold: > 0, in points.

    Raises:
      DataError: other shapes, values that are not finite, a number out of its range.
    """
    gradient_ate, exact_ate = _checked(gradient_ate, exact_ate, threshold)
    effects = np.asarray(screen_effects, np.float64)
    count = len(exact_ate)
    if effects.ndim != 2 or len(effects) != count or not np.isfinite(effects).all():
        raise DataError(
            f"screen_effects are {effects.shape}; give finite effects [{count}, patches]"
        )
    if num_patches < 1 or not gradient_cost >= 0:
        raise DataError(
            f"num_patches={num_patches}, gradient_cost={gradient_cost}: at least 1 and 0"
        )
    significant = np.abs(exact_ate) >= threshold
    passed = np.any(np.abs(effects) >= threshold, axis=1)
    cost = float(effects.size + num_patches * passed.sum())
    affordable = int(np.clip((cost - gradient_cost) // num_patches, 0, count))
    (gradient_recall,) = _recall_of_largest(gradient_ate, significant, np.array([affordable]))
    return ScreenComparison(
        num_significant=int(significant.sum()),
        cost=cost,
        random_recall=float(passed[significant].mean()) if significant.any() else np.nan,
        random_share=float(passed.mean()),
        gradient_recall=float(gradient_recall),
        gradient_share=affordable / count,
    )


def _recall_of_largest(
    gradient_ate: np.ndarray, significant: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    # Stable: of equal blocks the first, whatever the machine.
    order = np.argsort(-np.abs(gradient_ate), kind="stable")
    found = np.concatenate([[0], np.cumsum(significant[order])])
    return found[counts] / found[-1] if found[-1] else np.full(len(counts), np.nan)


def _checked(
    gradient_ate: np.ndarray, exact_ate: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(gradient_ate, np.float64), np.asarray(exact_ate, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise DataError(f"effects are {a.shape} and {b.shape}; give the same blocks [n] twice")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("effects are not all finite; leave out what has no ATE")
    # At 0 every block would count, those without any effect too.
    if not threshold > 0:
        raise DataError(f"threshold is {threshold}; it must be above 0")
    return a, b
