"""Average treatment effect of input blocks on a region's Dice: PdCR (arXiv 2602.20511)."""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxseg_xai.data.patches import draw_patches
from jaxseg_xai.errors import ConfigError
from jaxseg_xai.explainers import ate_statistics as statistics
from jaxseg_xai.explainers.ate_engine import Engine, make_engine
from jaxseg_xai.explainers.base import Batch, check_finite
from jaxseg_xai.metrics.outcomes import OUTCOMES
from jaxseg_xai.perturbations.blocks import any_in_block, grid_shape, paint_blocks
from jaxseg_xai.perturbations.replacements import MADE, Draws, made_draws
from jaxseg_xai.types import Explanation, Predict, SegmentTarget, Status

#: Inner edges of the histogram in Dice points; the threshold joins them as -t and t.
_EDGES = (-3.0, -1.0, -0.3, 0.3, 1.0, 3.0)


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

    Attributes:
      threshold: in points.
      block_size: side of a block in pixels.
      perturbation: "patches" of other images, or what is made from the image itself: "zero"
        (`zero_local` in the authors' code), "mean", "blur" (one intervention per block, no
        screening) or "noise" (as many as there would be patches).
      num_screen: interventions per block in the screening; 0 screens nothing out.
      num_patches: interventions per block that passes.
      outcome: "dice" (of the segmentation), "soft_dice" or "mean_probability", all in points; see
        `jaxseg_xai.metrics.outcomes`, where a function of one's own can be added.
      region_side: every region fits into a box of this side, and nothing else of the output is
        computed; None if nothing is known of the regions.
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
        """Draw the patches; they depend on the key, the image's id, the class and the block."""
        height, width = of.images.shape[1:3]
        blocks = int(np.prod(self.grid(height, width)))
        fold = functools.partial(jax.random.fold_in, of.key)
        if self.perturbation != "patches":
            ids = jnp.asarray(of.image_ids)
            keys = jax.vmap(lambda c, i: jax.random.fold_in(fold(c), i))(
                jnp.asarray(of.targets.class_index), ids
            )
            return made_draws(
                self.perturbation,
                jnp.asarray(of.images),
                keys,
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

        def draw(image_id: jax.Array, class_index: jax.Array) -> jax.Array:
            count = self.num_screen + self.num_patches
            return draw_patches(fold(class_index), image_id, pool, blocks, count)

        indices = jax.vmap(draw)(of.image_ids, of.targets.class_index)
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
          targets: [B, ...]; `reference` is T, `region` is R.
          draws: from `draw`, or given.
          mesh: from `device_mesh`.
          blocks: bool [B, rows, columns], the only blocks to intervene on; default: all.

        Returns:
          Explanation with leading axis B. Attribution [H, W] in points, 0 inside the region. Maps
          `prediction`; `standard_error` and `half_width` (of the confidence interval, Student's t)
          of every block's ATE, in points, 0 where it was screened out; `significant` (bool: its ATE
          is shown, and not 0 by a t-test over its interventions after Benjamini and Hochberg's
          correction). Scores `base_dice` (points), `num_positive`, `num_negative`, `num_zero` (of
          the blocks outside the region), `num_significant` and `num_interventions` (that were
          evaluated: blocks that cannot reach the region need none); trace `histogram`: blocks per
          bin of (-inf, -3, -1, -0.3, -t, t, 0.3, 1, 3, inf). Statuses EMPTY_TARGET (no reference
          pixel in the region), EMPTY_REGION, REGION_TOO_LARGE (for `region_side`) and NON_FINITE
          (of the image, its logits or those of an intervention) come with maps of zeros.
        """
        chex.assert_rank(images, 4)
        chex.assert_shape([targets.region, targets.reference], images.shape[:3])
        batch, height, width, channels = images.shape
        if blocks is None:
            blocks = jnp.ones((batch, *self.grid(height, width)), bool)
        engine_for = functools.partial(
            make_engine,
            predict,
            variables,
            (height, width, channels),
            block_size=self.block_size,
            region_side=self.region_side,
            batch_size=self.batch_size,
            outcome=OUTCOMES[self.outcome],
            mesh=mesh,
        )
        screening = engine_for(num_patches=draws.screen.shape[-1] or 1, round_size=None)
        sampling = engine_for(
            num_patches=draws.full.shape[-1],
            round_size=statistics.FEWEST if self.sequential else None,
        )

        def on_each_device(explainer, variables, patches, examples):
            def one(example):
                return explainer._explain(screening, sampling, variables, patches, *example)

            # One image after the other: its activations are kept while its blocks are dealt out.
            return jax.lax.map(one, examples)

        # check_vma: the loops below start from replicated zeros and end in a sum over devices.
        return jax.shard_map(
            on_each_device,
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(self, variables, draws.patches, (images, targets, draws.screen, draws.full, blocks))

    def _explain(
        self,
        screening: Engine,
        sampling: Engine,
        variables: Any,
        patches: jax.Array,
        image: jax.Array,
        target: SegmentTarget,
        screen: jax.Array,
        full: jax.Array,
        wanted: jax.Array,
    ) -> Explanation:
        """One image, on every device of the mesh."""
        started = sampling.start(variables, image, target)
        logits = started.prepared.logits
        status = _status(image, logits, target, started.fits)
        touched = any_in_block(target.region, self.block_size)
        visited = (wanted & ~touched & (status == Status.OK)).reshape(-1)
        # A block that cannot reach the region has no effect, and costs nothing.
        passed = visited & sampling.reachable(started).reshape(-1)
        interventions, broken = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
        if screen.shape[-1]:
            same = screening.go_on(started, variables)
            screened = screening.sample(same, patches, passed, screen)
            interventions += jnp.sum(passed) * screen.shape[-1]
            broken |= jnp.any(jnp.isnan(screened))
            # Not "< threshold": what is not a number goes on, and shows in the mean.
            passed &= ~jnp.all(jnp.abs(screened) < self.threshold, axis=1)
        if self.sequential:
            sample = sampling.sample_until_settled(
                started, patches, passed, full, threshold=self.threshold, confidence=self.confidence
            )
        else:
            count = jnp.where(passed, full.shape[-1], 0)
            sample = statistics.Sample(sampling.sample(started, patches, passed, full), count)
        interventions += jnp.sum(sample.count)
        found = statistics.estimate(sample)
        broken |= jnp.any(jnp.isnan(found.mean))
        status = jnp.where(broken, Status.NON_FINITE, status)
        found = jax.tree.map(lambda leaf: jnp.where(broken, 0.0, leaf), found)
        ate = jnp.where(jnp.abs(found.mean) < self.threshold, 0.0, found.mean)
        p = statistics.p_values(found, sample.count)
        significant = statistics.benjamini_hochberg(p, visited, 1 - self.confidence) & (ate != 0)
        width = statistics.half_width(found, sample.count, self.confidence, full.shape[-1])
        # No effect spans more than 200 points: what is wider, even endless, says nothing.
        width = jnp.where(sample.count > 1, jnp.minimum(width, 200.0), 0.0)

        def paint(values: jax.Array) -> jax.Array:
            pixels = paint_blocks(values.reshape(wanted.shape), self.block_size, *logits.shape[:2])
            return jnp.where(target.region, 0, pixels).astype(values.dtype)

        labels = jnp.argmax(jnp.where(jnp.isfinite(logits), logits, 0.0), axis=-1)
        scores = {
            "base_dice": started.base,
            "num_positive": jnp.sum(ate > 0, dtype=jnp.float32),
            "num_negative": jnp.sum(ate < 0, dtype=jnp.float32),
            "num_zero": jnp.sum((ate == 0) & visited, dtype=jnp.float32),
            "num_significant": jnp.sum(significant, dtype=jnp.float32),
        }
        usable = status == Status.OK
        scores = {name: jnp.where(usable, score, jnp.nan) for name, score in scores.items()}
        return Explanation(
            attribution=paint(ate),
            status=status,
            scores={**scores, "num_interventions": interventions.astype(jnp.float32)},
            maps={
                "prediction": labels.astype(jnp.int32),
                "standard_error": paint(found.standard_error),
                "half_width": paint(width),
                "significant": paint(significant),
            },
            traces={"histogram": self._histogram(ate, visited)},
        )

    def _histogram(self, ate: jax.Array, visited: jax.Array) -> jax.Array:
        """Blocks per bin of effects [n]."""
        edges = jnp.sort(jnp.array([*_EDGES, -self.threshold, self.threshold], jnp.float32))
        # Exact zeros belong to the middle bin even where the threshold is 0.
        bins = jnp.where(ate == 0, len(_EDGES) // 2 + 1, jnp.searchsorted(edges, ate, side="right"))
        return jnp.zeros(len(_EDGES) + 3).at[bins].add(visited.astype(jnp.float32))


def _status(image, logits, target: SegmentTarget, fits: jax.Array) -> jax.Array:
    """Status [] of one image before any intervention."""
    finite = jnp.all(jnp.isfinite(image)) & jnp.all(jnp.isfinite(logits))
    status = jnp.where(jnp.any(target.reference & target.region), Status.OK, Status.EMPTY_TARGET)
    status = jnp.where(fits, status, Status.REGION_TOO_LARGE)
    status = jnp.where(jnp.any(target.region), status, Status.EMPTY_REGION)
    return jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32)
