"""How sure an average treatment effect is: standard errors, intervals, corrected significance."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxseg_xai.core.types import Array

#: Hard Dice moves in steps: a handful of interventions that all do nothing agree by chance.
FEWEST = 10


class Sample(NamedTuple):
    """Effects of the interventions on every block, in Dice points.

    Attributes:
      effects: float32 [..., n, k].
      count: int32 [..., n], how many of the k were made; they come first.
    """

    effects: Array
    count: Array


class Estimate(NamedTuple):
    """What a sample tells of every block's ATE.

    Attributes:
      mean: float32 [..., n], in points.
      standard_error: float32 [..., n], in points; 0 for fewer than two interventions.
    """

    mean: Array
    standard_error: Array


def estimate(sample: Sample) -> Estimate:
    """Mean and standard error s / sqrt(m), with s the sample's standard deviation (m - 1)."""
    made = jnp.arange(sample.effects.shape[-1]) < sample.count[..., None]
    number = jnp.maximum(sample.count, 1)
    mean = jnp.sum(jnp.where(made, sample.effects, 0.0), axis=-1) / number
    squares = jnp.sum(jnp.where(made, (sample.effects - mean[..., None]) ** 2, 0.0), axis=-1)
    variance = squares / jnp.maximum(sample.count - 1, 1)
    return Estimate(mean, jnp.sqrt(variance / number))


def t_quantiles(confidence: float, count: int) -> np.ndarray:
    """Half-widths of two-sided intervals in standard errors after 0..count interventions.

    Infinite for fewer than two: one intervention says nothing of its spread.
    """
    quantiles = np.full(count + 1, np.inf, np.float32)
    quantiles[2:] = stats.t.ppf((1 + confidence) / 2, np.arange(1, count))
    return quantiles


def half_width(found: Estimate, count: Array, confidence: float, most: int) -> jax.Array:
    """Half-width [..., n] of the confidence interval of the mean, in points (Student's t)."""
    quantile = jnp.asarray(t_quantiles(confidence, most))[count]
    # Infinity times 0 is not a number.
    return jnp.where(
        (found.standard_error == 0) & (count > 1), 0.0, found.standard_error * quantile
    )


def settled(found: Estimate, count: Array, half_width: Array, threshold: Array) -> jax.Array:
    """Whether the interval [..., n] lies inside (-threshold, threshold), or all on one side of it.

    Never after fewer than `FEWEST` interventions.
    """
    low, high = found.mean - half_width, found.mean + half_width
    inside = (low > -threshold) & (high < threshold)
    return (count >= FEWEST) & (inside | (low > threshold) | (high < -threshold))


def p_values(found: Estimate, count: Array) -> jax.Array:
    """Two-sided p-values [n] of "the mean effect is 0" (Student's t, m - 1 degrees of freedom).

    1 for fewer than two interventions, and where every effect is 0.
    """
    freedom = jnp.maximum(count - 1, 1).astype(jnp.float32)
    ratio = (found.mean / jnp.where(found.standard_error > 0, found.standard_error, 1.0)) ** 2
    tail = jax.scipy.special.betainc(freedom / 2, 0.5, freedom / (freedom + ratio))
    certain = jnp.where(found.mean == 0, 1.0, 0.0)
    p = jnp.where(found.standard_error > 0, tail, certain)
    return jnp.where(count > 1, p, 1.0)


def benjamini_hochberg(p: Array, tested: Array, rate: Array | float) -> jax.Array:
    """Which blocks are significant at a false discovery rate (Benjamini and Hochberg, 1995).

    Args:
      p: p-values [n].
      tested: bool [n], the blocks that count as tests.
      rate: share of false ones among the significant.

    Returns:
      bool [n].
    """
    ordered = jnp.sort(jnp.where(tested, p, jnp.inf))
    rank = jnp.arange(1, p.size + 1)
    below = ordered <= rate * rank / jnp.maximum(jnp.sum(tested), 1)
    limit = jnp.max(jnp.where(below, ordered, -jnp.inf), initial=-jnp.inf)
    return tested & (p <= limit)
