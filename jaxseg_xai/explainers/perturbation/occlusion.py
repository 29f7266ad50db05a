"""Occlusion: what the outcome loses when a block of the image is hidden."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.perturbation.base import Perturbation, meta_of_perturbation
from jaxseg_xai.explainers.perturbation.engine import look
from jaxseg_xai.ops.blocks import any_in_block, grid_shape, paint_blocks, split_blocks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Occlusion(Perturbation):
    """What the outcome loses when a block is hidden, block after block.

    With O the outcome (by default the Dice of what is segmented with what is explained), every
    pixel of block b gets

        a = O(x) - O(x with b hidden).

    Attribution float32 [*S], signed, in units of the outcome: positive where the block helps.
    Scores: `outcome` O(x); `num_interventions` that were evaluated; `area_target` in pixels. Of an
    image only what a block can change and the region can see is computed, and nothing of a block
    that cannot reach the region.

    The ATE with `perturbation="zero"` is the same with the other sign, of the blocks that do not
    touch the region, as PdCR's code has it.

    Attributes:
      block_size: side of a block in pixels; those at the end of an axis may be cut off.
      outcome: this and what hidden pixels hold: see `Perturbation`.

    References:
      Zeiler and Fergus, arXiv 1311.2901, section 4.2, with blocks side by side.
    """

    name: ClassVar[str] = "occlusion"
    meta: ClassVar[Meta] = meta_of_perturbation(
        "Red: without the block the {outcome} falls, so it helps; blue: it rises.",
        "{num_interventions:.0f} blocks hidden, one at a time.",
        num_interventions="copies of the image that were evaluated",
    )
    in_volumes: ClassVar[Mapping[str, Any]] = {"block_size": 16}
    block_size: int = setting(8, static=True, at_least=1)

    def num_passes(self, shape: tuple[int, ...]) -> int | None:
        """See `Explainer.num_passes`."""
        if len(shape) == 3:
            return None
        return math.prod(grid_shape(shape[:-1], self.block_size)) * self.num_baselines

    def hidden_side(self, shape: tuple[int, ...]) -> int:
        """See `Perturbation.hidden_side`: one block."""
        return min(self.block_size, max(shape[:-1]))

    def explain_on(self, mesh: Mesh, problem: Problem, example: Example) -> Parts:
        """See `Perturbation.explain_on`."""
        side, shape, copies = self.block_size, example.image.shape[:-1], self.num_baselines
        view = look(self, mesh, problem, example, num_copies=copies)
        # The patches of all baselines, one baseline after the other.
        patches = jnp.concatenate([split_blocks(one, side) for one in view.baselines])
        blocks = len(patches) // copies
        which = jnp.arange(blocks)[:, None] + blocks * jnp.arange(copies)
        own = jnp.broadcast_to(example.own, (*shape, 1))[..., 0]
        hidden = any_in_block(own, side) & view.engine.reachable(view.started) & view.usable
        hidden = hidden.reshape(1, -1)
        effects = view.engine.sample(view.started, patches, hidden, which)[0]
        values = -jnp.mean(effects, axis=1).reshape(grid_shape(shape, side))
        return view.parts(
            example,
            paint_blocks(values, side, shape),
            num_interventions=jnp.sum(hidden, dtype=jnp.float32) * copies,
        )
