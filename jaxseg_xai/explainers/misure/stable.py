"""Stable MiSuRe: what many of several searches keep, and how many of them keep it."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.misure.search import Misure, region_of
from jaxseg_xai.explainers.misure.stages import Found, Job, MaskedModel, dice_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class StableMisure(Misure):
    """The region that many of several searches of `Misure` keep, with a confidence per pixel.

    A single search is one of many: rounding decides pixels on a threshold, and the steps after it
    amplify that. Here `num_starts` searches begin with their levels in other orders. Each finds a
    region R_i that is sufficient, and

        confidence = mean over i of R_i,     region = [confidence >= k / n]

    with k = max(1, share n); with a smaller k where that region is not sufficient, and the smallest
    R_i where none is. With the `share` 0.5 it is what half of the searches keep; with 0 what any of
    them does, which is more stable still, and larger.

    The attribution is the k-th largest level of each pixel, so that the region is where it is above
    0.5. Map `confidence` float32 [*S] in [0, 1]: the share of the searches that keep the pixel.
    Scores are those of `Misure`, measured on the region; `iterations` counts the steps of all
    searches, and `confidence` is the mean over the region. Traces and `multiplier` are those of the
    search with the smallest region. It costs as much as `num_starts` explanations.

    Attributes:
      num_starts: searches, n.
      share: of the searches that must keep a pixel, in [0, 1].
    """

    name: ClassVar[str] = "stable_misure"
    meta: ClassVar[Meta] = dataclasses.replace(
        Misure.meta,
        note="Bright: kept firmly. The model is shown the pixels above 0.5, unchanged: those that "
        "enough of the searches keep.",
        titles={
            "attribution": "Kept by enough searches\nbright: kept firmly",
            "confidence": "Share of the searches\nthat keep the pixel",
        },
        scores={**Misure.meta.scores, "confidence": "mean share of the searches that keep a pixel"},
    )
    num_starts: int = setting(4, static=True, at_least=2, at_most=64)
    share: float = setting(0.5, at_least=0, at_most=1)

    @property
    def num_searches(self) -> int:
        """As many as starts."""
        return self.num_starts

    def together(self, model: MaskedModel, job: Job, found: Found) -> Found:
        """The region that enough of the searches keep, made larger until it is sufficient."""
        areas = jnp.sum(found.mask, axis=tuple(range(1, found.mask.ndim)))
        smallest = jax.tree.map(lambda leaf: leaf[jnp.argmin(areas)], found)
        # The k-th largest level of a pixel is above 0.5 where k searches keep it; k = n, ..., 1.
        levels = jnp.sort(found.attribution, axis=0)
        levels = jnp.concatenate([levels, smallest.attribution[None]])
        needed = jnp.maximum(1, jnp.ceil(self.share * self.num_starts))
        allowed = jnp.arange(self.num_starts, -1, -1) <= needed

        def enough(level: jax.Array) -> jax.Array:
            logits = model.logits(region_of(level).astype(jnp.float32))
            return dice_of(model.output, logits, job.target) >= self.tau

        # The last one is: its search has seen it.
        level = levels[jnp.argmax(allowed & jax.lax.map(enough, levels).at[-1].set(True))]
        region, confidence = region_of(level), jnp.mean(found.mask, axis=0)
        return Found(
            attribution=level,
            mask=region.astype(jnp.float32),
            finite=jnp.all(found.finite),
            scores={
                **smallest.scores,
                "iterations": jnp.sum(found.scores["iterations"]),
                "confidence": jnp.mean(confidence, where=region),
            },
            traces=smallest.traces,
            maps={"confidence": confidence},
        )
