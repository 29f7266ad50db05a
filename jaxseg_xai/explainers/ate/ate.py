"""Average treatment effect of input blocks on a region's Dice: PdCR (arXiv 2602.20511)."""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.types import Explanation, Predict, SegmentTarget, Status
from jaxseg_xai.explainers.ate.engine import Engine, make_engine
from jaxseg_xai.explainers.ate.results import explanation_of, first_status
from jaxseg_xai.explainers.ate.statistics import FEWEST, Sample
from jaxseg_xai.explainers.base import Batch, check_finite
from jaxseg_xai.ops.blocks import any_in_block, grid_shape
from jaxseg_xai.ops.patches import draw_patches
from jaxseg_xai.ops.replacements import MADE, Draws, made_draws
from jaxseg_xai.outcomes.points import OUTCOMES


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Ate:
    """Average treatment effect (ATE) of replacing each block of the input.

    The outcome of an input is O(x) = 100 D([argmax f(x) = c] and R, T and R) in Dice points, with
    D(a, b) = 2|a and b| / (|a| + |b| + 1e-10). Every block that does not touch R is screened with a
    few patches of other images; where all effects |O(do) - O(x)| stay below the threshold the ATE
    is 0. The others get `num_patches` fresh ones and ATE = mean(O(do) - O(x)), set to 0 below the
    threshold. Negative: the block's own content helps. Positive: it hurts.

    Blocks at the bottom and right edge are cut off where the size does not divide the image. Only
    what a block can change and the region can see is computed again (`jaxseg_xai.incremental`).

    Targets [B, R, ...] (leaves [B, R] and [B, R, H, W]) name R regions of every image, of any
    classes. They share the interventions: each is evaluated once, if any region needs it, and
    measured in every region. Which blocks a region has, what screens them out and when sampling
    stops is each region's own matter, so that its explanation is the one it would get alone with
    the same draws. An empty region (to fill up) costs next to nothing. What is computed of the
    output is one box that holds all regions of an image: for a few small regions far apart, R
    explanations with a small `region_side` can be cheaper.

    Attributes:
      threshold: in points.
      block_size: side of a block in pixels.
      perturbation: "patches" of other images, or what is made from the image itself: "zero"
        (`zero_local` in the authors' code), "mean", "blur" (one intervention per block, no
        screening) or "noise" (as many as there would be patches).
      num_screen: interventions per block in the screening; 0 screens nothing out.
      num_patches: interventions per block that passes.
      outcome: "dice" (of the segmentation), "soft_dice" or "mean_probability", all in points; see
        `jaxseg_xai.outcomes.points`, where a function of one's own can be added.
      region_side: every region (of several, all of an image together) fits into a box of this
        side, and nothing else of the output is computed; None if nothing is known of the regions.
      sequential: stop sampling a block once the confidence interval of its ATE lies inside
        (-threshold, threshold) or all on one side of it (after 10, 20, .. interventions). Looking
        often, it stops too early somewhat more often than 1 - confidence says, and so are blocks
        called significant.
      confidence: of the intervals; 1 - confidence is the false discovery rate of the significant
        blocks.
      batch_size: interventions that one device evaluates at a time; None chooses by its memory. No
        result depends on it. (`sequential` always evaluates 10 at a time on a block.)

    References:
      PdCR, arXiv 2602.20511, and its code (lcmmai/PdCR, `occlusion_sensitivity_optimized`).
    """

    name: ClassVar[str] = "ate"
    whole_image: ClassVar[bool] = False
    threshold: float = 0.02
    block_size: int = dataclasses.field(default=8, metadata={"static": True})
    perturbation: Literal["patches", "zero", "mean", "blur", "noise"] = dataclasses.field(
        default="patches", metadata={"static": True}
    )
    num_screen: int = dataclasses.field(default=3, metadata={"static": True})
    num_patches: int = dataclasses.field(default=50, metadata={"static": True})
    outcome: str = dataclasses.field(default="dice", metadata={"static": True})
    region_side: int | None = dataclasses.field(default=None, metadata={"static": True})
    sequential: bool = dataclasses.field(default=False, metadata={"static": True})
    confidence: float = dataclasses.field(default=0.95, metadata={"static": True})
    batch_size: int | None = dataclasses.field(default=None, metadata={"static": True})

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        check_finite(self)
        if not self.threshold >= 0:
            raise ConfigError(f"ate.threshold is {self.threshold}; it must not be negative")
        if self.perturbation not in ("patches", *MADE):
            raise ConfigError(
                f"ate.perturbation is {self.perturbation!r}; use patches, {', '.join(MADE)}"
            )
        if self.outcome not in OUTCOMES:
            raise ConfigError(f"ate.outcome is {self.outcome!r}; use {', '.join(OUTCOMES)}")
        if not 0 < self.confidence < 1:
            raise ConfigError(f"ate.confidence is {self.confidence}; it must be in (0, 1)")
        if self.num_screen < 0:
            raise ConfigError(f"ate.num_screen is {self.num_screen}; it must not be negative")
        for name in ("block_size", "num_patches", "batch_size", "region_side"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"ate.{name} is {value}; it must be at least 1")

    @property
    def needs_pool(self) -> bool:
        """Whether patches of other images are put into the blocks."""
        return self.perturbation == "patches"

    def explain_batch(
        self, predict: Predict, variables: Any, batch: Batch, mesh: Mesh
    ) -> Explanation:
        """`explain` with patches drawn from the batch's pool."""
        draws = self.draw(batch)
        grid = self.grid(*batch.images.shape[1:3])
        blocks = jnp.broadcast_to(batch.valid[:, None, None], (len(batch.valid), *grid))
        return self.explain(
            predict, variables, batch.images, batch.targets, draws, mesh, blocks=blocks
        )

    def draw(self, of: Batch) -> Draws:
        """Draw the patches; they depend on the key, the image's id, the class and the block.

        Of targets [B, R, ...] they do not depend on the classes: the regions share them.
        """
        height, width = of.images.shape[1:3]
        blocks = int(np.prod(self.grid(height, width)))
        classes = jnp.asarray(of.targets.class_index)
        fold = functools.partial(jax.random.fold_in, of.key)
        keys = jax.vmap(fold if classes.ndim == 1 else lambda _: of.key)(classes)
        if self.perturbation != "patches":
            return made_draws(
                self.perturbation,
                jnp.asarray(of.images),
                jax.vmap(jax.random.fold_in)(keys, jnp.asarray(of.image_ids)),
                self.block_size,
                self.num_screen,
                self.num_patches,
            )
        pool = of.pool
        if pool is None:
            raise ConfigError(
                "ate with perturbation=patches needs a patch pool; give the batch one"
            )
        wanted = (self.block_size, self.block_size, of.images.shape[-1])
        if pool.patches.shape[1:] != wanted:
            raise ConfigError(
                f"the pool's patches are {pool.patches.shape[1:]}, but the images need {wanted} "
                "(block_size, block_size, channels); build the pool from images like these"
            )

        def draw(key: jax.Array, image_id: jax.Array) -> jax.Array:
            return draw_patches(key, image_id, pool, blocks, self.num_screen + self.num_patches)

        indices = jax.vmap(draw)(keys, of.image_ids)
        return Draws(pool.patches, indices[..., : self.num_screen], indices[..., self.num_screen :])

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of blocks of an image."""
        return grid_shape(height, width, self.block_size)

    def explain(
        self,
        predict: Predict,
        variables: Any,
        images: jax.Array,
        targets: SegmentTarget,
        draws: Draws,
        mesh: Mesh,
        blocks: jax.Array | None = None,
    ) -> Explanation:
        """ATE of every block for a batch of images, all their interventions spread over the mesh.

        Args:
          predict: the model.
          variables: its weights.
          images: float32 [B, H, W, C].
          targets: [B, ...], or [B, R, ...] of R >= 1 regions; `reference` is T, `region` is R.
          draws: from `draw`, or given; of the images, whatever their regions.
          mesh: from `device_mesh`.
          blocks: bool [B, rows, columns], the only blocks to intervene on; default: all.

        Returns:
          Explanation with the leading axes of the targets. Attribution [H, W] in points, 0 inside
          the region. Maps `prediction`; `standard_error` and `half_width` (of the confidence
          interval, Student's t) of every block's ATE, in points, 0 where it was screened out;
          `significant` (bool: its ATE is shown, and not 0 by a t-test over its interventions after
          Benjamini and Hochberg's correction). Scores `base_dice` (points), `num_positive`,
          `num_negative`, `num_zero` (of the blocks outside the region), `num_significant` and
          `num_interventions` (that were evaluated: blocks that cannot reach the region need none);
          trace `histogram`: blocks per bin of (-inf, -3, -1, -0.3, -t, t, 0.3, 1, 3, inf). Statuses
          EMPTY_TARGET (no reference pixel in the region), EMPTY_REGION, REGION_TOO_LARGE (for
          `region_side`; of several, those that do not lie in the box whose first row and column are
          the first of all that fit into one) and NON_FINITE (of the image, its logits or those of
          an intervention in the region) come with maps of zeros.

          Of several regions, `num_interventions` are those that a region's numbers come from, and
          the score `num_evaluated` (the same for all of them) those made for any.

        Raises:
          AssertionError: shapes that do not belong together.
        """
        chex.assert_rank([images, targets.region], [4, {3, 4}])
        several = targets.region.ndim == 4
        if not several:
            targets = jax.tree.map(lambda leaf: leaf[:, None], targets)
        batch, height, width, channels = images.shape
        regions = targets.region.shape[1]
        chex.assert_shape([targets.region, targets.reference], (batch, regions, height, width))
        chex.assert_shape(targets.class_index, (batch, regions))
        chex.assert_axis_dimension_gt(targets.region, 1, 0)
        grid = self.grid(height, width)
        chex.assert_shape([draws.screen, draws.full], (batch, int(np.prod(grid)), None))
        if blocks is None:
            blocks = jnp.ones((batch, *grid), bool)
        chex.assert_shape(blocks, (batch, *grid))
        engine_for = functools.partial(
            make_engine,
            predict,
            variables,
            (height, width, channels),
            block_size=self.block_size,
            region_side=self.region_side,
            num_regions=regions,
            batch_size=self.batch_size,
            outcome=OUTCOMES[self.outcome],
            mesh=mesh,
        )
        screening = engine_for(num_patches=draws.screen.shape[-1] or 1, round_size=None)
        sampling = engine_for(
            num_patches=draws.full.shape[-1],
            round_size=FEWEST if self.sequential else None,
        )

        def on_each_device(explainer, variables, patches, examples):
            def one(example):
                return explainer._explain(screening, sampling, variables, patches, *example)

            # One image after the other: its activations are kept while its blocks are dealt out.
            return jax.lax.map(one, examples)

        # check_vma: the loops below start from replicated zeros and end in a sum over devices.
        found, evaluated = jax.shard_map(
            on_each_device,
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(self, variables, draws.patches, (images, targets, draws.screen, draws.full, blocks))
        if not several:
            return jax.tree.map(lambda leaf: leaf[:, 0], found)
        evaluated = jnp.broadcast_to(evaluated[:, None], found.status.shape)
        return dataclasses.replace(found, scores={**found.scores, "num_evaluated": evaluated})

    def _explain(
        self,
        screening: Engine,
        sampling: Engine,
        variables: Any,
        patches: jax.Array,
        image: jax.Array,
        targets: SegmentTarget,
        screen: jax.Array,
        full: jax.Array,
        wanted: jax.Array,
    ) -> tuple[Explanation, jax.Array]:
        """One image and its R regions, on every device: [R, ...], interventions that were made."""
        started = sampling.start(variables, image, targets)
        logits = started.prepared.logits
        status = jax.vmap(first_status, (None, None, 0, 0))(image, logits, targets, started.fits)
        touched = jax.vmap(any_in_block, (0, None))(targets.region, self.block_size)
        visited = wanted & ~touched & (status == Status.OK)[:, None, None]
        visited = visited.reshape(len(visited), -1)
        # A block that cannot reach the box has no effect, and costs nothing.
        passed = visited & sampling.reachable(started).reshape(-1)
        made = jnp.where(passed, screen.shape[-1], 0)
        if screen.shape[-1]:
            same = screening.go_on(started, variables)
            screened = screening.sample(same, patches, passed, screen)
            broken = jnp.any(jnp.isnan(screened), axis=(1, 2))
            status = jnp.where(broken, Status.NON_FINITE, status)
            # Not "< threshold": what is not a number goes on, and shows in the mean.
            passed &= ~jnp.all(jnp.abs(screened) < self.threshold, axis=-1)
        if self.sequential:
            sample = sampling.sample_until_settled(
                started, patches, passed, full, threshold=self.threshold, confidence=self.confidence
            )
        else:
            count = jnp.where(passed, full.shape[-1], 0)
            sample = Sample(sampling.sample(started, patches, passed, full), count)
        explained = jax.vmap(
            functools.partial(
                explanation_of,
                logits=logits,
                threshold=self.threshold,
                block_size=self.block_size,
                confidence=self.confidence,
            )
        )(targets, sample, visited, status, {"base_dice": started.base})
        interventions = jnp.sum(made + sample.count, axis=1).astype(jnp.float32)
        scores = {**explained.scores, "num_interventions": interventions}
        # A block's come in the same order for all regions: the most of one are those of any.
        evaluated = jnp.sum(jnp.max(made, axis=0) + jnp.max(sample.count, axis=0))
        explained = dataclasses.replace(explained, scores=scores)
        return explained, evaluated.astype(jnp.float32)
