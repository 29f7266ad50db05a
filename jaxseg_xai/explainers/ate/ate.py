"""Average treatment effect of input blocks on a region's Dice: PdCR (arXiv 2602.20511)."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Array, Explanation, SegmentTarget
from jaxseg_xai.explainers.ate.engine import Engine, Work
from jaxseg_xai.explainers.ate.image import explain_image
from jaxseg_xai.explainers.ate.plans import share_of
from jaxseg_xai.explainers.ate.statistics import FEWEST
from jaxseg_xai.explainers.ate.windowed import WindowedEngine
from jaxseg_xai.explainers.base import Batch, Explainer, Meta, Need, Problem
from jaxseg_xai.ops.blocks import grid_shape
from jaxseg_xai.ops.control import only_if
from jaxseg_xai.ops.patches import draw_patches
from jaxseg_xai.ops.random import fold_words
from jaxseg_xai.ops.replacements import MADE, Draws, made_draws
from jaxseg_xai.outcomes import OUTCOMES, get_outcome


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Ate(Explainer):
    """Average treatment effect (ATE) of replacing each block of the input.

    The outcome of an input is O(x) = 100 D([f(x) is c] and R, T and R) in Dice points, with
    D(a, b) = 2|a and b| / (|a| + |b| + 1e-10). Every block that does not touch R is screened with a
    few patches of other images; where all effects |O(do) - O(x)| stay below the threshold the ATE
    is 0. The others get `num_patches` fresh ones and ATE = mean(O(do) - O(x)), set to 0 below the
    threshold. Negative: the block's own content helps. Positive: it hurts.

    Of a volume the defaults are blocks of 16 and the mean of the image, which takes one
    intervention a block.

    Blocks are squares of images [H, W, C], cubes of volumes [D, H, W, C]; those at the end of an
    axis are cut off where the size does not divide the image. Only what a block can change and the
    region can see is computed again (`jaxseg_xai.incremental`).

    Targets [B, R, ...] (leaves [B, R] and [B, R, *S]) name R regions of every image, of any
    classes. They share the interventions: each is evaluated once, if any region needs it, and
    measured in every region. Which blocks a region has, what screens them out and when sampling
    stops is each region's own matter, so that its explanation is the one it would get alone with
    the same draws. An empty region (to fill up) costs next to nothing. What is computed of the
    output is one box that holds all regions of an image: for a few small regions far apart, R
    explanations with a small `region_side` can be cheaper.

    Attributes:
      threshold: in the outcome's unit.
      block_size: side of a block in pixels.
      perturbation: "patches" of other images, or what is made from the image itself: "zero"
        (`zero_local` in the authors' code), "mean", "blur" (one intervention per block, no
        screening) or "noise" (as many as there would be patches).
      num_screen: interventions per block in the screening; 0 screens nothing out.
      num_patches: interventions per block that passes.
      outcome: one of `jaxseg_xai.outcomes`: "dice" of the segmentation, "soft_dice" or
        "mean_probability", all in points, or "summed_logits" (with a threshold to suit).
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
    meta: ClassVar[Meta] = Meta(
        target="reference",
        figure="effects",
        unit="{outcome}",
        signed=True,
        high="against",
        needs=frozenset({"patches"}),
        note="Each block was replaced by other content. Red: the outcome falls (negative ATE), so "
        "the block's own content helps. Blue: it rises (positive ATE), so its content hurts.",
        caption="Outcome in the region: {base_dice:.1f}  ·  {num_interventions:.0f} "
        "interventions  ·  {num_significant:.0f} blocks significant (black outline)",
        scores={
            "base_dice": "outcome of the image in the region",
            "num_positive": "blocks whose content hurts",
            "num_negative": "blocks whose content helps",
            "num_zero": "blocks outside the region without effect",
            "num_significant": "blocks whose effect is significant",
            "num_interventions": "interventions behind the map",
        },
        revision=2,
    )
    #: What evaluates changed images.
    engine: ClassVar[type[Engine]] = WindowedEngine
    in_volumes: ClassVar[Mapping[str, Any]] = {"block_size": 16, "perturbation": "mean"}
    threshold: float = setting(0.02, at_least=0)
    block_size: int = setting(8, static=True, at_least=1)
    perturbation: Literal["patches", "zero", "mean", "blur", "noise"] = setting(
        "patches", static=True, choices=("patches", *MADE)
    )
    num_screen: int = setting(3, static=True, at_least=0)
    num_patches: int = setting(50, static=True, at_least=1)
    outcome: str = setting("dice", static=True, choices=OUTCOMES)
    region_side: int | None = setting(None, static=True, idle=True, at_least=1)
    sequential: bool = setting(False, static=True)
    confidence: float = setting(0.95, static=True, above=0, below=1)
    batch_size: int | None = setting(None, static=True, idle=True, at_least=1)

    @property
    def needs(self) -> frozenset[Need]:
        """Patches, where they are what is put into the blocks."""
        return self.meta.needs if self.perturbation == "patches" else frozenset()

    def num_passes(self, shape: tuple[int, ...]) -> int | None:
        """See `Explainer.num_passes`: every block of a volume, as if none were screened out."""
        if len(shape) == 3:
            return None
        drawn = self.perturbation in ("patches", "noise")
        return math.prod(self.grid(shape[:-1])) * (
            self.num_screen + self.num_patches if drawn else 1
        )

    def window_share(self, segmenter: Segmenter, variables: Any, shape: tuple[int, ...]) -> float:
        """See `Explainer.window_share`; where `region_side` says nothing, of the largest region."""
        return share_of(segmenter, variables, self._work(shape))

    def in_box(self, side: int) -> Self:
        """See `Explainer.in_box`."""
        return self if self.region_side else dataclasses.replace(self, region_side=side)

    def explain_batch(self, problem: Problem, batch: Batch, mesh: Mesh) -> Explanation:
        """`explain` with draws of its own."""
        draws = self.draw(problem, batch)
        return self.explain(
            problem, batch.images, batch.targets, draws, mesh, sizes=batch.sizes, valid=batch.valid
        )

    def draw(self, problem: Problem, batch: Batch) -> Draws:
        """Draw the patches; they depend on the key, the image's id, the class and the block.

        Of targets [B, R, ...] they do not depend on the classes: the regions share them.
        """
        blocks = math.prod(self.grid(batch.images.shape[1:-1]))
        classes, ids = (jnp.asarray(x) for x in (batch.targets.class_index, batch.image_ids))
        if classes.ndim == 1:
            keys = jax.vmap(functools.partial(jax.random.fold_in, problem.key))(classes)
        else:
            keys = jnp.broadcast_to(problem.key, (len(classes),))
        if self.perturbation != "patches":
            return made_draws(
                self.perturbation,
                jnp.asarray(batch.images),
                jax.vmap(fold_words)(keys, ids),
                self.block_size,
                self.num_screen,
                self.num_patches,
                batch.sizes,
            )
        pool = problem.pool
        assert pool is not None, "asked for in `needs`"

        def draw(key: jax.Array, image_id: jax.Array, group: jax.Array) -> jax.Array:
            number = self.num_screen + self.num_patches
            return draw_patches(key, image_id, pool, blocks, number, group)

        groups = ids if batch.groups is None else jnp.asarray(batch.groups)
        indices = jax.vmap(draw)(keys, ids, groups)
        return Draws(pool.patches, indices[..., : self.num_screen], indices[..., self.num_screen :])

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """How many blocks lie along each axis of images of a size S."""
        return grid_shape(shape, self.block_size)

    def explain(
        self,
        problem: Problem,
        images: jax.Array,
        targets: SegmentTarget,
        draws: Draws,
        mesh: Mesh,
        blocks: jax.Array | None = None,
        sizes: jax.Array | None = None,
        valid: Array | None = None,
    ) -> Explanation:
        """ATE of every block for a batch of images, all their interventions spread over the mesh.

        Args:
          problem: the model and its weights; nothing is drawn.
          images: float32 [B, *S, C].
          targets: [B, ...], or [B, R, ...] of R >= 1 regions; `reference` is T, `region` is R.
          draws: from `draw`, or given; of the images, whatever their regions.
          mesh: from `device_mesh`.
          blocks: bool [B, *G], the only blocks to intervene on; default: all.
          sizes: int32 [B, rank], of the images without their padding, which no patch enters; or
            None.
          valid: bool [B], False of images that only fill up the batch, which get zeros; default:
            none do.

        Returns:
          Explanation with the leading axes of the targets. Attribution [*S] in points, 0 inside
          the region. Maps `prediction`; `standard_error` and `half_width` (of the confidence
          interval, Student's t) of every block's ATE, in points, 0 where it was screened out;
          `significant` (bool: its ATE is shown, and not 0 by a t-test over its interventions after
          Benjamini and Hochberg's correction). Scores `base_dice` (points), `num_positive`,
          `num_negative`, `num_zero` (of the blocks outside the region), `num_significant` and
          `num_interventions` (that were evaluated: blocks that cannot reach the region need none);
          trace `histogram`: blocks per bin of (-inf, -3, -1, -0.3, -t, t, 0.3, 1, 3, inf). Statuses
          EMPTY_TARGET (no reference pixel in the region), EMPTY_REGION, REGION_TOO_LARGE (for
          `region_side`; of several, those that do not lie in the box whose first pixel along each
          axis is the first of all that fit into one), NO_BLOCKS (all of them touch the region) and
          NON_FINITE (of the image, its logits or those of an intervention in the region) come with
          maps of zeros, and NaN for all scores but `num_interventions`, which says what was paid.

          Of several regions, `num_interventions` are those that a region's numbers come from, and
          the score `num_evaluated` (the same for all of them) those made for any.

        Raises:
          AssertionError: shapes that do not belong together.
        """
        rank = images.ndim - 2
        chex.assert_rank(targets.region, {rank + 1, rank + 2})
        several = targets.region.ndim == rank + 2
        if not several:
            targets = jax.tree.map(lambda leaf: leaf[:, None], targets)
        batch, *shape, _ = images.shape
        regions = targets.region.shape[1]
        chex.assert_shape([targets.region, targets.reference], (batch, regions, *shape))
        chex.assert_shape(targets.class_index, (batch, regions))
        chex.assert_axis_dimension_gt(targets.region, 1, 0)
        grid = self.grid(shape)
        chex.assert_shape([draws.screen, draws.full], (batch, math.prod(grid), None))
        if blocks is None:
            blocks = jnp.ones((batch, *grid), bool)
        chex.assert_shape(blocks, (batch, *grid))
        valid = jnp.ones(batch, bool) if valid is None else jnp.asarray(valid)

        def engine_for(num_patches: int, round_size: int | None) -> Engine:
            work = dataclasses.replace(
                self._work(images.shape[1:]),
                num_regions=regions,
                num_patches=num_patches,
                round_size=round_size,
            )
            outcome = get_outcome(self.outcome)
            model = (problem.segmenter, problem.variables)
            return self.engine.build(*model, outcome, work, mesh)

        sampling = engine_for(draws.full.shape[-1], FEWEST if self.sequential else None)
        screens = draws.screen.shape[-1]
        # Without a screening its engine is never asked, and another takes seconds to plan.
        screening = engine_for(screens, None) if screens else sampling

        def on_each_device(shared: tuple[Array, Problem, jax.Array], examples: tuple):
            threshold, *model_and_patches = shared
            explain_one_image = functools.partial(
                explain_image,
                screening,
                sampling,
                *model_and_patches,
                threshold=threshold,
                block_size=self.block_size,
                confidence=self.confidence,
                sequential=self.sequential,
            )
            # One image after the other: its activations are kept while its blocks are dealt out.
            return jax.lax.map(
                lambda given: only_if(given[0], lambda: explain_one_image(*given[1:])),
                examples,
            )

        # check_vma: the loops below start from replicated zeros and end in a sum over devices.
        found, evaluated = jax.shard_map(
            on_each_device,
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(
            (self.threshold, dataclasses.replace(problem, pool=None), draws.patches),
            (valid, images, targets, draws.screen, draws.full, blocks, sizes),
        )
        if not several:
            return jax.tree.map(lambda leaf: leaf[:, 0], found)
        evaluated = jnp.broadcast_to(evaluated[:, None], found.status.shape)
        return dataclasses.replace(found, scores={**found.scores, "num_evaluated": evaluated})

    def _work(self, shape: tuple[int, ...]) -> Work:
        """One intervention a block of images (*S, C), for one region."""
        return Work(
            shape=shape,
            block_size=self.block_size,
            region_side=self.region_side,
            num_regions=1,
            num_patches=1,
            round_size=None,
            batch_size=self.batch_size,
        )
