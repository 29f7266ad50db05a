"""The ATE of all blocks at once from gradients: first order, or integrated along a path."""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from jaxseg_xai.core.errors import ConfigError, DataError
from jaxseg_xai.core.types import Explanation, Predict, SegmentTarget, Status
from jaxseg_xai.devices.mesh import shard_examples
from jaxseg_xai.explainers.base import Batch, check_finite
from jaxseg_xai.ops.blocks import (
    any_in_block,
    grid_shape,
    paint_blocks,
    sum_in_block,
    tile_patches,
)
from jaxseg_xai.ops.patches import PatchPool, draw_patches
from jaxseg_xai.ops.path_integral import mean_gradient
from jaxseg_xai.outcomes.points import OUTCOMES


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class AteGradient:
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

    Attributes:
      block_size: side of a block in pixels.
      num_fields: fields z; field f puts into block k the patch that `Ate` draws for it in
        intervention f (of its screening and full interventions, counted through).
      num_nodes: 1 is first order: one backward pass for all fields together. More are the nodes of
        the path integral: each costs a backward pass per field. (Either way a field costs one
        forward pass more, for the gap.)
      outcome: "soft_dice" or "mean_probability", see `jaxseg_xai.outcomes.points`.

    References:
      Sundararajan et al., integrated gradients, arXiv 1703.01365, eq. 1; Aumann and Shapley,
      "Values of Non-Atomic Games" (1974). ATE: PdCR, arXiv 2602.20511, whose code has no gradient
      form.
    """

    name: ClassVar[str] = "ate_gradient"
    whole_image: ClassVar[bool] = False
    block_size: int = dataclasses.field(default=8, metadata={"static": True})
    num_fields: int = dataclasses.field(default=8, metadata={"static": True})
    num_nodes: int = dataclasses.field(default=1, metadata={"static": True})
    outcome: Literal["soft_dice", "mean_probability"] = dataclasses.field(
        default="soft_dice", metadata={"static": True}
    )

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        check_finite(self)
        for name in ("block_size", "num_fields", "num_nodes"):
            if getattr(self, name) < 1:
                value = getattr(self, name)
                raise ConfigError(f"ate_gradient.{name} is {value}; it must be at least 1")
        if self.outcome not in ("soft_dice", "mean_probability"):
            raise ConfigError(
                f"ate_gradient.outcome is {self.outcome!r}; use soft_dice or mean_probability "
                "(hard Dice has no gradient)"
            )

    @property
    def needs_pool(self) -> bool:
        """Fields are made of patches of other images."""
        return True

    def explain_batch(
        self, predict: Predict, variables: Any, batch: Batch, mesh: Mesh
    ) -> Explanation:
        """`explain` of every example, the examples spread over the devices."""
        pool = batch.pool
        if pool is None:
            raise ConfigError("ate_gradient needs a patch pool; give the batch one")

        def lanes(shared: Any, examples: Any) -> Explanation:
            explainer, variables, pool, key = shared
            one = functools.partial(explainer.explain, predict, variables, pool, key)
            return jax.vmap(one)(*examples)

        shared = (self, variables, pool, batch.key)
        return shard_examples(lanes, mesh)(shared, (batch.images, batch.targets, batch.image_ids))

    def explain(
        self,
        predict: Predict,
        variables: Any,
        pool: PatchPool,
        key: jax.Array,
        image: jax.Array,
        target: SegmentTarget,
        image_id: jax.Array,
    ) -> Explanation:
        """Effects of all blocks of one image; `vmap` it over images, targets and ids.

        Args:
          predict: the model, differentiable with respect to its images.
          variables: its weights.
          pool: patches [N, b, b, C] of other images.
          key: `jax.random.key`; the class, the image's id, the block and the field are folded in.
          image: float32 [H, W, C].
          target: class c, region R and reference T of the outcome.
          image_id: uint32 [], see `data.image_id`.

        Returns:
          Attribution [H, W] in points: every pixel has its block's effect, 0 where the block
          touches the region. Map `standard_error` [H, W] (of the mean over fields, in points) if
          there are two fields or more, and `prediction`. Scores, in points: `base_outcome` O(x);
          `field_effect`, the mean of O(z) - O(x); `completeness_gap`, the mean over fields of
          |sum of e_k - (O(z) - O(x))|, which goes to 0 with `num_nodes`. Statuses EMPTY_TARGET,
          EMPTY_REGION and NON_FINITE (of the image, its logits, or a field's outcome or gradient)
          come with maps of zeros.

        Raises:
          DataError: the pool's patches are not [b, b, C].
        """
        chex.assert_rank(image, 3)
        height, width, channels = image.shape
        chex.assert_shape([target.region, target.reference], (height, width))
        wanted = (self.block_size, self.block_size, channels)
        if pool.patches.shape[1:] != wanted:
            raise DataError(
                f"the pool's patches are {pool.patches.shape[1:]}, but the image and "
                f"ate_gradient.block_size need {wanted}; build another pool"
            )
        outcome = OUTCOMES[self.outcome]
        logits = predict(variables, image[None])[0]
        base = outcome(logits, target)

        rows, columns = grid_shape(height, width, self.block_size)
        touched = any_in_block(target.region, self.block_size)
        kept = paint_blocks(touched, self.block_size, height, width)[..., None]
        patch_of = draw_patches(
            jax.random.fold_in(key, target.class_index),
            image_id,
            pool,
            rows * columns,
            self.num_fields,
        )

        def value(x: jax.Array) -> jax.Array:
            return outcome(predict(variables, x[None])[0], target)

        gradient = jax.grad(value)
        # At the image itself it is the same for every field.
        at_image = gradient(image) if self.num_nodes == 1 else None

        def one_field(_: None, patches: jax.Array) -> tuple[None, tuple[jax.Array, ...]]:
            field = tile_patches(jnp.asarray(pool.patches)[patches], height, width)
            step = jnp.where(kept, 0.0, field - image)
            slope = at_image
            if slope is None:
                slope = mean_gradient(gradient, image, step, self.num_nodes)
            effects = sum_in_block(jnp.sum(slope * step, axis=-1), self.block_size)
            return None, (effects, value(image + step) - base)

        # One field after the other: what is kept is a number per block and field.
        _, (effects, changes) = lax.scan(one_field, None, patch_of.T)
        gaps = jnp.abs(jnp.sum(effects, axis=(1, 2)) - changes)
        # The gaps are NaN wherever an outcome or a gradient is.
        status = _status(image, logits, target, jnp.all(jnp.isfinite(gaps)))
        usable = status == Status.OK

        def paint(values: jax.Array) -> jax.Array:
            values = jnp.where(usable & ~touched, values, 0.0)
            return paint_blocks(values, self.block_size, height, width)

        labels = jnp.argmax(jnp.where(jnp.isfinite(logits), logits, 0.0), axis=-1)
        maps = {"prediction": labels.astype(jnp.int32)}
        if self.num_fields > 1:
            spread = jnp.std(effects, axis=0, ddof=1)
            maps["standard_error"] = paint(spread / np.sqrt(self.num_fields))
        scores = {
            "base_outcome": base,
            "field_effect": jnp.mean(changes),
            "completeness_gap": jnp.mean(gaps),
        }
        return Explanation(
            attribution=paint(jnp.mean(effects, axis=0)),
            status=status,
            scores={name: jnp.where(usable, score, jnp.nan) for name, score in scores.items()},
            maps=maps,
        )


def _status(
    image: jax.Array, logits: jax.Array, target: SegmentTarget, effects_finite: jax.Array
) -> jax.Array:
    """As in `Ate`: int32 []."""
    usable = jnp.any(target.reference & target.region)
    status = jnp.where(effects_finite, Status.OK, Status.NON_FINITE)
    status = jnp.where(usable, status, Status.EMPTY_TARGET)
    status = jnp.where(jnp.any(target.region), status, Status.EMPTY_REGION)
    finite = jnp.all(jnp.isfinite(image)) & jnp.all(jnp.isfinite(logits))
    return jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32)
