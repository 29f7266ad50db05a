"""Average treatment effect of input blocks on a region's Dice: PdCR (arXiv 2602.20511)."""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxseg_xai.data.patches import draw_patches
from jaxseg_xai.errors import ConfigError
from jaxseg_xai.explainers.base import Batch, check_finite
from jaxseg_xai.parallel.jobs import map_jobs
from jaxseg_xai.perturbations.blocks import any_in_block, grid_shape, paint_blocks, replace_block
from jaxseg_xai.types import Array, Explanation, Predict, SegmentTarget, Status

#: Inner edges of the histogram in Dice points; the threshold joins them as -t and t.
_EDGES = (-3.0, -1.0, -0.3, 0.3, 1.0, 3.0)


class Draws(NamedTuple):
    """Which patch replaces which block.

    Attributes:
      patches: float32 [P, b, b, C].
      screen: int32 [B, n, s], patches that screen each of the n blocks (row by row).
      full: int32 [B, n, k], patches of the full intervention.
    """

    patches: Array
    screen: Array
    full: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Ate:
    """Average treatment effect (ATE) of replacing each block of the input.

    The outcome of an input is O(x) = 100 D([argmax f(x) = c] and R, T and R) in Dice points, with
    D(a, b) = 2|a and b| / (|a| + |b| + 1e-10). Every block that does not touch R is screened with a
    few patches of other images; where all effects |O(do) - O(x)| stay below the threshold the ATE
    is 0. The others get `num_patches` fresh ones and ATE = mean(O(do) - O(x)), set to 0 below the
    threshold. Negative: the block's own content helps. Positive: it hurts.

    Blocks at the bottom and right edge are cut off where the size does not divide the image.

    Attributes:
      threshold: in Dice points.
      block_size: side of a block in pixels.
      perturbation: "patches" (of other images) or "zero" (one intervention per block, no
        screening; `zero_local` in the authors' code).
      num_screen: patches per block in the screening; 0 screens nothing out.
      num_patches: patches per block that passes.
      batch_size: interventions that one device evaluates at a time; no result depends on it.

    References:
      PdCR, arXiv 2602.20511, and its code (lcmmai/PdCR, `occlusion_sensitivity_optimized`).
    """

    name: ClassVar[str] = "ate"
    threshold: float = 0.02
    block_size: int = dataclasses.field(default=8, metadata={"static": True})
    perturbation: Literal["patches", "zero"] = dataclasses.field(
        default="patches", metadata={"static": True}
    )
    num_screen: int = dataclasses.field(default=3, metadata={"static": True})
    num_patches: int = dataclasses.field(default=50, metadata={"static": True})
    batch_size: int = dataclasses.field(default=8, metadata={"static": True})

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        check_finite(self)
        if not self.threshold >= 0:
            raise ConfigError(f"ate.threshold is {self.threshold}; it must not be negative")
        if self.perturbation not in ("patches", "zero"):
            raise ConfigError(f"ate.perturbation is {self.perturbation!r}; use patches or zero")
        if self.num_screen < 0:
            raise ConfigError(f"ate.num_screen is {self.num_screen}; it must not be negative")
        for name in ("block_size", "num_patches", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ate.{name} is {getattr(self, name)}; it must be at least 1")

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
        batch, height, width, channels = of.images.shape
        pool = of.pool
        blocks = int(np.prod(self.grid(height, width)))
        if self.needs_pool and pool is None:
            raise ConfigError(
                "ate with perturbation=patches needs a patch pool; give the batch one"
            )
        if pool is None or not self.needs_pool:
            patches = jnp.zeros((1, self.block_size, self.block_size, channels))
            nothing = jnp.zeros((batch, blocks, 0), jnp.int32)
            return Draws(patches, nothing, jnp.zeros((batch, blocks, 1), jnp.int32))

        def draw(image_id: jax.Array, class_index: jax.Array) -> jax.Array:
            folded = jax.random.fold_in(of.key, class_index)
            return draw_patches(folded, image_id, pool, blocks, self.num_screen + self.num_patches)

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
          Explanation with leading axis B. Attribution [H, W] in Dice points, 0 inside the region.
          Map `prediction`; scores `base_dice` (points), `num_positive`, `num_negative`, `num_zero`
          (of the blocks outside the region) and `num_interventions`; trace `histogram`: blocks per
          bin of (-inf, -3, -1, -0.3, -t, t, 0.3, 1, 3, inf). Statuses EMPTY_TARGET (no reference
          pixel in the region), EMPTY_REGION and NON_FINITE (of the image, its logits or those of
          an intervention) come with maps of zeros.
        """

        chex.assert_rank(images, 4)
        chex.assert_shape([targets.region, targets.reference], images.shape[:3])
        if blocks is None:
            blocks = jnp.ones((images.shape[0], *self.grid(*images.shape[1:3])), bool)

        def on_each_device(variables, images, targets, draws, blocks):
            return self._explain(predict, variables, images, targets, draws, blocks, mesh.size)

        # check_vma: the loops below start from replicated zeros and end in a sum over devices.
        return jax.shard_map(
            on_each_device,
            mesh=mesh,
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(variables, images, targets, draws, blocks)

    def _explain(self, predict, variables, images, targets, draws: Draws, wanted, num_devices: int):
        batch, height, width, _ = images.shape
        rows, columns = self.grid(height, width)
        logits = predict(variables, images)
        finite = jnp.all(jnp.isfinite(images), axis=(1, 2, 3))
        finite &= jnp.all(jnp.isfinite(logits), axis=(1, 2, 3))
        status = jnp.where(
            jnp.any(targets.reference & targets.region, axis=(1, 2)),
            Status.OK,
            Status.EMPTY_TARGET,
        )
        status = jnp.where(jnp.any(targets.region, axis=(1, 2)), status, Status.EMPTY_REGION)
        status = jnp.where(finite, status, Status.NON_FINITE).astype(jnp.int32)
        base = jax.vmap(outcome)(logits, targets)

        touched = jax.vmap(lambda region: any_in_block(region, self.block_size))(targets.region)
        visited = (wanted & ~touched & (status == Status.OK)[:, None, None]).reshape(-1)

        def effects(blocks: jax.Array, patch_of: jax.Array) -> jax.Array:
            """Effects [B*n, k] of patches `patch_of` [B*n, k] on the blocks marked in [B*n]."""
            repeats = patch_of.shape[1]
            number = jnp.sum(blocks)
            chosen = jnp.nonzero(blocks, size=blocks.size, fill_value=0)[0]

            def intervene(job: jax.Array) -> tuple[jax.Array, jax.Array]:
                block = chosen[job // repeats]
                image = block // (rows * columns)
                patch = draws.patches[patch_of[block, job % repeats]]
                return replace_block(images[image], patch, block % (rows * columns)), image

            def evaluate(jobs: jax.Array) -> jax.Array:
                inputs, image = jax.vmap(intervene)(jobs)
                target = jax.tree.map(lambda leaf: leaf[image], targets)
                return jax.vmap(outcome)(predict(variables, inputs), target) - base[image]

            found = map_jobs(
                evaluate,
                number * repeats,
                capacity=blocks.size * repeats,
                batch_size=self.batch_size,
                num_devices=num_devices,
            ).reshape(-1, repeats)
            # Past the chosen blocks comes the fill index: it must not write.
            where = jnp.where(jnp.arange(blocks.size) < number, chosen, blocks.size)
            return jnp.zeros_like(found).at[where].set(found, mode="drop")

        passed = visited
        if draws.screen.shape[-1]:
            screened = effects(visited, draws.screen.reshape(visited.size, -1))
            # Not "< threshold": what is not a number goes on, and shows in the mean.
            passed &= ~jnp.all(jnp.abs(screened) < self.threshold, axis=1)
        ate = jnp.mean(effects(passed, draws.full.reshape(visited.size, -1)), axis=1)
        ate = jnp.where(jnp.abs(ate) < self.threshold, 0.0, ate).reshape(batch, -1)
        broken = jnp.any(jnp.isnan(ate), axis=1)
        status = jnp.where(broken, Status.NON_FINITE, status)
        ate = jnp.where(broken[:, None], 0.0, ate)

        visited = visited.reshape(batch, -1)
        interventions = jnp.sum(visited, axis=1) * draws.screen.shape[-1]
        interventions += jnp.sum(passed.reshape(batch, -1), axis=1) * draws.full.shape[-1]
        explanation = jax.vmap(self._summarise)(
            ate.reshape(batch, rows, columns), visited.reshape(batch, rows, columns), status, base
        )
        pixels = jax.vmap(lambda ate: paint_blocks(ate, self.block_size, height, width))(
            explanation.attribution
        )
        labels = jnp.argmax(jnp.where(jnp.isfinite(logits), logits, 0.0), axis=-1)
        return dataclasses.replace(
            explanation,
            attribution=jnp.where(targets.region, 0.0, pixels),
            maps={"prediction": labels.astype(jnp.int32)},
            scores={
                **explanation.scores,
                "num_interventions": interventions.astype(jnp.float32),
            },
        )

    def _summarise(self, ate, visited, status, base) -> Explanation:
        """Counts and histogram of one map of blocks [rows, columns]."""
        usable = status == Status.OK
        edges = jnp.sort(jnp.array([*_EDGES, -self.threshold, self.threshold], jnp.float32))
        # Exact zeros belong to the middle bin even where the threshold is 0.
        bins = jnp.where(ate == 0, len(_EDGES) // 2 + 1, jnp.searchsorted(edges, ate, side="right"))
        counts = jnp.zeros(len(_EDGES) + 3).at[bins].add(visited.astype(jnp.float32))
        scores = {
            "base_dice": base,
            "num_positive": jnp.sum(ate > 0, dtype=jnp.float32),
            "num_negative": jnp.sum(ate < 0, dtype=jnp.float32),
            "num_zero": jnp.sum((ate == 0) & visited, dtype=jnp.float32),
        }
        return Explanation(
            attribution=ate,
            status=status,
            scores={name: jnp.where(usable, score, jnp.nan) for name, score in scores.items()},
            traces={"histogram": counts},
        )


def outcome(logits: jax.Array, target: SegmentTarget) -> jax.Array:
    """O(x) = 100 D([argmax f(x) = c] and R, T and R) in Dice points [0, 100], PdCR's form.

    Args:
      logits: [H, W, K].
      target: of one image.

    Returns:
      float32 []; NaN where the logits are not finite.
    """
    segment = (jnp.argmax(logits, axis=-1) == target.class_index) & target.region
    truth = target.reference & target.region
    both, a, b = (jnp.sum(m, dtype=jnp.float32) for m in (segment & truth, segment, truth))
    dice = 100 * 2 * both / (a + b + 1e-10)
    return jnp.where(jnp.all(jnp.isfinite(logits)), dice, jnp.nan)
