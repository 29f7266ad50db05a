"""Average drop, increase and gain: what becomes of the class under the map as a veil."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Problem
from jaxseg_xai.metrics.base import Metric, MetricMeta, Rated
from jaxseg_xai.metrics.baseline import BASELINES, Baseline, blank_image
from jaxseg_xai.metrics.evaluate import IN_POINTS, outcomes_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class VeilMetric(Metric):
    """Base of the three: an outcome O of the image and of the image under the map's veil,

        x m + b (1 - m),   m = (|a| - min |a|) / (max |a| - min |a|),

    a the map and b the baseline. NaN of a constant map, which has no m. One forward pass, the same
    for all three.

    Attributes:
      outcome: O, as a share of 1: "mean_probability" of the class over the reference, "dice" or
        "soft_dice".
      baseline: b, see `jaxseg_xai.metrics.baseline`.
    """

    outcome: Literal["mean_probability", "dice", "soft_dice"] = setting(
        "mean_probability", static=True, choices=IN_POINTS
    )
    baseline: Baseline = setting("zero", static=True, choices=BASELINES)

    @property
    def num_passes(self) -> int:
        """See `Metric.num_passes`."""
        return 1

    def before_and_after(
        self, problem: Problem, example: Example, rated: Rated
    ) -> tuple[jax.Array, jax.Array]:
        """O of the image and under the veil, float32 [] in [0, 1]; the latter NaN where none is."""

        def compute() -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
            own = jnp.asarray(example.own)
            pixels = jnp.broadcast_to(own, (*rated.relevance.shape, 1))[..., 0]
            size = jnp.abs(rated.relevance)
            least = jnp.min(size, where=pixels, initial=jnp.inf)
            spread = jnp.max(size) - least
            veil = ((size - least) / jnp.where(spread > 0, spread, 1.0))[..., None]
            image, blank = example.image, blank_image(self.baseline, example)
            veiled = jnp.where(own, image * veil + blank * (1 - veil), image)
            logits = problem.segmenter.logits(problem.variables, veiled[None])[0]
            before = outcomes_of(problem, example, example.logits)
            return before, outcomes_of(problem, example, logits), spread > 0

        before, after, defined = rated.once(("veiled", self.baseline), compute)
        name = self.outcome
        return before[name] / 100, jnp.where(defined, after[name] / 100, jnp.nan)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AverageDrop(VeilMetric):
    """max(0, O(x) - O(veiled)) / O(x), in [0, 1]; lower is better. See `VeilMetric`.

    NaN where O(x) is 0, and of a constant map.

    References:
      Chattopadhay et al., Grad-CAM++, arXiv 1710.11063, section 4.1; |a| and its scaling as in
      Xplique's `AverageDropMetric`.
    """

    name: ClassVar[str] = "average_drop"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="lower",
        headline="drop",
        scores={"drop": "relative drop of the outcome under the map's veil"},
        signed=False,
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        before, after = self.before_and_after(problem, example, rated)
        drop = jnp.maximum(before - after, 0.0) / jnp.where(before > 0, before, jnp.nan)
        return {"drop": drop}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AverageIncrease(VeilMetric):
    """1 where O(veiled) > O(x), else 0; higher is better. See `VeilMetric`.

    Of a single image it is a yes or no; its mean over images is the published share. NaN of a
    constant map.

    References:
      Chattopadhay et al., Grad-CAM++, arXiv 1710.11063, section 4.1.
    """

    name: ClassVar[str] = "average_increase"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="increase",
        scores={"increase": "whether the outcome rises under the map's veil"},
        signed=False,
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        before, after = self.before_and_after(problem, example, rated)
        rises = jnp.where(after > before, 1.0, 0.0)
        return {"increase": jnp.where(jnp.isnan(after), jnp.nan, rises)}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AverageGain(VeilMetric):
    """max(0, O(veiled) - O(x)) / (1 - O(x)), in [0, 1]; higher is better. See `VeilMetric`.

    NaN where O(x) is 1, and of a constant map.

    References:
      Zhang et al., Opti-CAM, arXiv 2301.07002, section 4.1.
    """

    name: ClassVar[str] = "average_gain"
    meta: ClassVar[MetricMeta] = MetricMeta(
        range=(0.0, 1.0),
        better="higher",
        headline="gain",
        scores={
            "gain": "rise of the outcome under the map's veil, as a share of what is left to 1"
        },
        signed=False,
    )

    def score(self, problem: Problem, example: Example, rated: Rated) -> dict[str, jax.Array]:
        """See `Metric.score`."""
        before, after = self.before_and_after(problem, example, rated)
        gain = jnp.maximum(after - before, 0.0) / jnp.where(before < 1, 1 - before, jnp.nan)
        return {"gain": gain}
