"""Score-CAM of a segment: every channel of a layer, weighted by what its own mask shows."""

import dataclasses
import functools
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.devices.jobs import equal_batches
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.cam.base import ActivationMap, channels_last, meta_of_map, weighted
from jaxseg_xai.outcomes import OUTCOMES, get_outcome
from jaxseg_xai.program.sites import run_shifted

_WEIGHTS = ("softmax", "increase")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreCam(ActivationMap):
    """Score-CAM of a segment: every channel of a layer, weighted by what its own mask shows.

    Channel A_k of a layer, up-sampled to the image and scaled to [0, 1], is a mask m_k. With O the
    outcome (by default the Dice of what is segmented with what is explained), x the image and 0
    that of the normalised input,

        s_k = O(x m_k) - O(0),   w = softmax(s),   map = max(0, sum over k of w_k A_k).

    For the softmax points count as shares, in [0, 1]. It makes all weights nearly equal; with
    `weights="increase"` w_k is s_k itself.

    Attributes:
      layer: see `ActivationMap`.
      outcome: see `jaxseg_xai.outcomes`.
      weights: "softmax", as published, or "increase".
      batch_size: masks that a device looks at together, for each image.

    References:
      Wang et al., Score-CAM, arXiv 1910.01279, algorithm 1, with Dice in the place of the class
      score.
    """

    name: ClassVar[str] = "score_cam"
    meta: ClassVar[Meta] = meta_of_map(
        "Bright: parts of the layer that, shown alone, let the model segment the same.",
        gradient=False,
    )
    outcome: str = setting("dice", static=True, choices=OUTCOMES)
    weights: Literal["softmax", "increase"] = setting("softmax", static=True, choices=_WEIGHTS)
    batch_size: int = setting(8, static=True, idle=True, at_least=1)

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        segmenter, image, target = problem.segmenter, example.image, example.target
        outcome = get_outcome(self.outcome)
        value = functools.partial(outcome.value, segmenter.output)
        program, site = self.find(segmenter, problem.variables, image.shape)
        unchanged = jnp.zeros((), program.shapes[site.value].dtype)
        logits, (tensor,) = run_shifted(
            program, problem.variables, image[None], [site], [unchanged]
        )
        channels = channels_last(tensor, site)
        count = channels.shape[-1]
        at_once = equal_batches(count, self.batch_size)

        def scores(first: jax.Array) -> jax.Array:
            numbers = jnp.minimum(first + jnp.arange(at_once), count - 1)
            masks = jnp.moveaxis(jnp.take(channels, numbers, axis=-1), -1, 0)
            masks = jax.image.resize(masks, (at_once, *image.shape[:-1]), "linear")
            masks = jax.vmap(_scaled)(masks)[..., None]
            masks = jnp.where(example.own, masks, 1.0)
            found = segmenter.logits(problem.variables, image * masks)
            return jax.vmap(value, (0, None))(found, target)

        starts = jnp.arange(0, count, at_once)
        found = lax.map(scores, starts).reshape(-1)[:count]
        nothing = segmenter.logits(problem.variables, jnp.zeros_like(image)[None])[0]
        increase = found - value(nothing, target)
        if self.weights == "softmax":
            increase = jax.nn.softmax(increase / (100 if outcome.unit == "points" else 1))
        cam = weighted(channels, increase)
        return self.parts(example, cam, value(logits[0], target), logits[0])


def _scaled(mask: jax.Array) -> jax.Array:
    """To [0, 1]; a channel without contrast shows nothing."""
    low, high = jnp.min(mask), jnp.max(mask)
    return jnp.where(high > low, (mask - low) / jnp.where(high > low, high - low, 1.0), 0.0)
