"""Ablation-CAM of a segment: every channel of a layer, weighted by what is lost without it."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.devices.jobs import equal_batches
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.cam.base import ActivationMap, channels_last, meta_of_map, weighted
from jaxseg_xai.outcomes import get_outcome
from jaxseg_xai.program.sites import run_shifted


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AblationCam(ActivationMap):
    """Ablation-CAM of a segment: every channel of a layer, weighted by what is lost without it.

    With y the outcome (by default the logits of class c summed over its predicted pixels), y_k the
    same with channel A_k of a layer set to 0,

        w_k = (y - y_k) / |y|,   map = max(0, sum over k of w_k A_k).

    (As published, but for the sign of y: a lost channel counts the same where y is negative.)

    Attributes:
      layer: see `ActivationMap`.
      outcome: see `jaxseg_xai.outcomes`.
      batch_size: channels that a device leaves out at a time, for each image.

    References:
      Desai and Ramaswamy, Ablation-CAM, WACV 2020, with a segment's outcome in the place of
      the class score.
    """

    name: ClassVar[str] = "ablation_cam"
    meta: ClassVar[Meta] = meta_of_map(
        "Bright: without what the layer holds here the outcome falls.", gradient=False
    )
    batch_size: int = setting(8, static=True, idle=True, at_least=1)

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        segmenter, image, target = problem.segmenter, example.image, example.target
        outcome = get_outcome(self.outcome)
        program, site = self.find(segmenter, problem.variables, image.shape)
        layer = program.shapes[site.value]

        def run(shift: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
            logits, (tensor,) = run_shifted(
                program, problem.variables, image[None], [site], [shift]
            )
            return outcome.value(segmenter.output, logits[0], target), tensor, logits[0]

        value, tensor, logits = run(jnp.zeros((), layer.dtype))
        count = layer.shape[site.axis]
        at_once = equal_batches(count, self.batch_size)

        def without(number: jax.Array) -> jax.Array:
            """The outcome without a channel."""
            channel = lax.broadcasted_iota(jnp.int32, layer.shape, site.axis) == number
            return run(jnp.where(channel, -tensor, 0))[0]

        left = lax.map(without, jnp.arange(count), batch_size=at_once)
        size = jnp.abs(value)
        weights = jnp.where(size > 0, (value - left) / jnp.where(size > 0, size, 1.0), 0.0)
        return self.parts(example, weighted(channels_last(tensor, site), weights), value, logits)
