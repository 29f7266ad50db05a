"""The ATE of all blocks at once from gradients: first order, or integrated along a path."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.base import Example, Explainer, Meta, Parts, Problem
from jaxseg_xai.ops.blocks import (
    any_in_block,
    grid_shape,
    paint_blocks,
    sum_in_block,
    tile_patches,
)
from jaxseg_xai.ops.patches import draw_patches
from jaxseg_xai.ops.path_integral import mean_gradient
from jaxseg_xai.outcomes import OUTCOMES, get_outcome


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AteGradient(Explainer):
    """Gradient form of the ATE: every block's effect from a few backward passes.

    A field z is the image x with *every* block replaced by a patch of another image, except blocks
    that touch the region R, which stay as they are and have effect 0. With a differentiable
    outcome O, in points, block k gets

        e_k = integral over s in [0, 1] of <grad O(x + s (z - x)), z - x>_k ds,

    <.,.>_k being the sum over the block's pixels and channels; the attribution is the mean of e_k
    over `num_fields` random fields. Negative: the block's own content helps (as in `Ate`).

    How this differs from `Ate`, which replaces one block and leaves the others as they are:

    - `num_nodes=1` takes the gradient at s = 0, so each e_k is the first-order Taylor term of that
      block's own replacement: what `Ate` would measure if O were linear over the size of a patch.
      It misses whatever saturates, and a sharp edge of a soft outcome looks larger than it is.
    - `num_nodes>1` integrates along the path on which *all blocks change together* (Aumann-Shapley
      values, that is integrated gradients with the field as the end point). The e_k then add up to
      O(z) - O(x), interactions shared out among the blocks, but one e_k is not the effect of
      replacing that block alone.
    - Both are exact, and equal, where O is linear in the pixels; the first also in the limit of
      patches that differ little from what they replace.

    The nodes are Gauss-Legendre's, see `path_integral`.

    Attribution float32 [*S]: every pixel has its block's effect, 0 where the block touches the
    region. Map `standard_error` [*S] (of the mean over fields) if there are two fields or more.
    Scores: `base_outcome` O(x); `field_effect`, the mean of O(z) - O(x); `completeness_gap`, the
    mean over fields of |sum of e_k - (O(z) - O(x))|, which goes to 0 with `num_nodes`. All in the
    outcome's unit.

    Attributes:
      block_size: side of a block in pixels.
      num_fields: fields z; field f puts into block k the patch that `Ate` draws for it in
        intervention f (of its screening and full interventions, counted through).
      num_nodes: 1 is first order: one backward pass for all fields together. More are the nodes of
        the path integral: each costs a backward pass per field. (Either way a field costs one
        forward pass more, for the gap.)
      outcome: a differentiable outcome, see `jaxseg_xai.outcomes`.

    References:
      Sundararajan et al., integrated gradients, arXiv 1703.01365, eq. 1; Aumann and Shapley,
      "Values of Non-Atomic Games" (1974). ATE: PdCR, arXiv 2602.20511, whose code has no gradient
      form.
    """

    name: ClassVar[str] = "ate_gradient"
    meta: ClassVar[Meta] = Meta(
        target="reference",
        figure="effects",
        unit="{outcome}",
        signed=True,
        high="against",
        needs=frozenset({"gradient", "patches"}),
        note="What replacing each block would do, by gradients. Red: the outcome falls, so the "
        "block's own content helps. Blue: it rises, so its content hurts.",
        caption="Outcome in the region: {base_outcome:.1f}; {field_effect:.1f} when all blocks are "
        "replaced. The blocks' effects add up to that but for {completeness_gap:.1f}.",
        scores={
            "base_outcome": "outcome of the image in the region",
            "field_effect": "change of the outcome when all blocks are replaced",
            "completeness_gap": "how far the blocks' effects are from adding up to that",
        },
        revision=2,
    )
    block_size: int = setting(8, static=True, at_least=1)
    num_fields: int = setting(8, static=True, at_least=1)
    num_nodes: int = setting(1, static=True, at_least=1)
    outcome: str = setting("soft_dice", static=True, choices=OUTCOMES)

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        segmenter, image, target = problem.segmenter, example.image, example.target
        pool, shape = problem.pool, image.shape[:-1]
        assert pool is not None, "asked for in `needs`"
        outcome = get_outcome(self.outcome)
        base = outcome.value(segmenter.output, example.logits, target)
        own = jnp.asarray(example.own)
        touched = any_in_block(target.region, self.block_size)
        inside = any_in_block(jnp.broadcast_to(own, (*shape, 1))[..., 0], self.block_size)
        free = jnp.any(inside & ~touched)
        kept = paint_blocks(touched, self.block_size, shape)[..., None]
        # The draws of `Ate`, whose key has the class alone folded in.
        patch_of = draw_patches(
            jax.random.fold_in(problem.key, target.class_index),
            example.image_id,
            pool,
            math.prod(grid_shape(shape, self.block_size)),
            self.num_fields,
            example.group,
        )

        def value(x: jax.Array) -> jax.Array:
            logits = segmenter.logits(problem.variables, x[None])[0]
            return outcome.value(segmenter.output, logits, target)

        gradient = jax.grad(value)
        # At the image itself it is the same for every field.
        at_image = gradient(image) if self.num_nodes == 1 else None

        def one_field(_: None, patches: jax.Array) -> tuple[None, tuple[jax.Array, ...]]:
            field = tile_patches(jnp.asarray(pool.patches)[patches], shape)
            step = jnp.where(kept | ~own, 0.0, field - image)
            slope = at_image
            if slope is None:
                slope = mean_gradient(gradient, image, step, self.num_nodes)
            effects = sum_in_block(jnp.sum(slope * step, axis=-1), self.block_size)
            return None, (effects, value(image + step) - base)

        # One field after the other: what is kept is a number per block and field.
        _, (effects, changes) = lax.scan(one_field, None, patch_of.T)
        gaps = jnp.abs(jnp.sum(effects, axis=tuple(range(1, effects.ndim))) - changes)

        def paint(values: jax.Array) -> jax.Array:
            return paint_blocks(jnp.where(touched, 0.0, values), self.block_size, shape)

        maps = {}
        if self.num_fields > 1:
            spread = jnp.std(effects, axis=0, ddof=1)
            maps["standard_error"] = paint(spread / np.sqrt(self.num_fields))
        return Parts(
            attribution=paint(jnp.mean(effects, axis=0)),
            scores={
                "base_outcome": base,
                "field_effect": jnp.mean(changes),
                "completeness_gap": jnp.mean(gaps),
            },
            maps=maps,
            status=jnp.where(free, Status.OK, Status.NO_BLOCKS).astype(jnp.int32),
            # The gaps are NaN wherever an outcome or a gradient is.
            finite=jnp.all(jnp.isfinite(gaps)),
        )
