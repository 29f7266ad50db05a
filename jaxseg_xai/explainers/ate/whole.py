"""Interventions of which each goes through the whole model, where windows would save nothing."""

import dataclasses
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Array, SegmentTarget
from jaxseg_xai.explainers.ate.engine import Engine, Started, Work, cut
from jaxseg_xai.ops.blocks import replace_block
from jaxseg_xai.outcomes import Outcome
from jaxseg_xai.program.memory import images_that_fit


class Whole(NamedTuple):
    """What interventions need to run the model.

    Attributes:
      variables: its weights.
      image: float32 [*S, C], unperturbed.
    """

    variables: Any
    image: Array


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class WholeEngine(Engine):
    """An engine for images or volumes [*S, C]; one forward pass an intervention.

    Attributes:
      segmenter: the model.
      grid: how many blocks lie along each axis.
      at_a_time: images that a device evaluates at a time.
    """

    segmenter: Segmenter
    grid: tuple[int, ...]
    at_a_time: int

    @classmethod
    def build(
        cls, segmenter: Segmenter, variables: Any, outcome: Outcome, work: Work, mesh: Mesh
    ) -> Self:
        """See `Engine.build`."""
        batch_size = work.batch_size or images_that_fit(
            mesh.devices.flat[0], segmenter, variables, work.shape
        )
        per_call = work.per_call(batch_size)
        return cls(
            output=segmenter.output,
            outcome=outcome,
            box=work.box,
            per_call=per_call,
            lanes=1,
            num_devices=mesh.size,
            segmenter=segmenter,
            grid=work.grid,
            at_a_time=min(batch_size, per_call),
        )

    def start(self, variables: Any, image: jax.Array, targets: SegmentTarget) -> Started:
        """See `Engine.start`."""
        logits = self.segmenter.logits(variables, image[None])[0]
        return self.look(Whole(variables, image), logits, targets)

    def share(self, started: Started, variables: Any) -> Started:
        """See `Engine.share`."""
        del variables
        return started

    def reachable(self, started: Started) -> jax.Array:
        """All: nothing is known of what a block can change."""
        del started
        return jnp.ones(self.grid, bool)

    def logits_of(self, started: Started, patches: jax.Array, block: jax.Array) -> jax.Array:
        """See `Engine.logits_of`."""
        variables, image = started.prepared

        def one(patch: jax.Array) -> jax.Array:
            changed = replace_block(image, patch, block)
            logits = self.segmenter.logits(variables, changed[None])[0]
            return cut(logits, started.corner, self.box)

        return lax.map(one, patches, batch_size=self.at_a_time)
