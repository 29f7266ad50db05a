"""Sufficiency and minimality: is what the map points at enough for the model, and is it little?"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.baseline import BASELINES, Baseline, blank_image
from jaxseg_xai.metrics.evaluate import outcomes_of


def kept_region(level: jax.Array | float, example: Example, rated: Rated) -> jax.Array:
    """The image's own pixels of more than a share of the largest relevance, bool [*S, 1]."""
    most = jnp.max(rated.relevance)
    return ((rated.relevance > level * most) & (most > 0))[..., None] & jnp.asarray(example.own)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sufficiency(Metric):
    """Dice of the segment when only the map's region is kept, {relevance > level * largest}.

    All other pixels hold the baseline. `dice` and `dice_soft` in [0, 1]; higher is better, beside
    `minimality`: the whole image is always sufficient. NaN where no relevance is positive. Of
    MiSuRe, whose largest value is 1, the region is {mask > level}; its own score is of the soft
    mask.

    One forward pass.

    Attributes:
      level: where the region begins, as a share of the largest relevance.
      baseline: what the other pixels hold, see `jaxseg_xai.metrics.baseline`.

    References:
      MiSuRe, arXiv 2406.12173, for masks.
    """

    name: ClassVar[str] = "sufficiency"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="dice",
        scores={
            "dice": "hard Dice when only the region is kept",
            "dice_soft": "soft Dice when only the region is kept",
        },
    )
    level: float = setting(0.5, at_least=0, below=1)
    baseline: Baseline = setting("zero", static=True, choices=BASELINES)

    @property
    def num_passes(self) -> int:
        """See `Metric.num_passes`."""
        return 1

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        region = kept_region(self.level, example, rated)
        hidden = ~region & jnp.asarray(example.own)
        image = jnp.where(hidden, blank_image(self.baseline, example), example.image)
        logits = problem.segmenter.logits(problem.variables, image[None])[0]
        found, some = outcomes_of(problem, example, logits), jnp.any(region)
        return {
            "dice": jnp.where(some, found["dice"] / 100, jnp.nan),
            "dice_soft": jnp.where(some, found["soft_dice"] / 100, jnp.nan),
        }


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Minimality(Metric):
    """Share of the image that the map's region takes, {relevance > level * largest}.

    In [0, 1]; lower is better, beside `sufficiency`: little is easily too little. NaN where no
    relevance is positive. No forward pass.

    Attributes:
      level: where the region begins, as a share of the largest relevance.

    References:
      MiSuRe, arXiv 2406.12173, for masks.
    """

    name: ClassVar[str] = "minimality"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="lower",
        headline="area",
        scores={"area": "share of the image's pixels in the region"},
    )
    level: float = setting(0.5, at_least=0, below=1)

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        del problem
        region = kept_region(self.level, example, rated)
        area = jnp.sum(region) / jnp.sum(jnp.broadcast_to(example.own, region.shape))
        return {"area": jnp.where(jnp.any(region), area, jnp.nan)}
