"""Interventions on the blocks of one image, re-evaluated incrementally, spread over the devices.

An intervention is evaluated once and looked at through all R regions of the image.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.types import Array, Predict, SegmentTarget
from jaxseg_xai.devices.jobs import equal_batches, map_jobs
from jaxseg_xai.explainers.ate.statistics import Sample, estimate, half_width, settled
from jaxseg_xai.incremental import Place, Plan, Prepared, intervene, make_plan, operands_of, prepare
from jaxseg_xai.ops.blocks import bounding_box
from jaxseg_xai.outcomes.points import Outcome

#: Interventions that a CPU core evaluates at a time: small windows stay in its cache.
_CPU_BATCH = 10
#: Share of an accelerator's memory for the windows of one batch, and the most that helps.
_MEMORY_SHARE, _MOST = 0.25, 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Engine:
    """Evaluates interventions; one per traced program, not per image.

    Attributes:
      plan: how `plan.num_patches` interventions on one block are evaluated.
      lanes: blocks at a time.
      outcome: of an input, in one region.
      num_devices: size of the mesh.
    """

    plan: Plan
    lanes: int
    outcome: Outcome
    num_devices: int

    def start(self, variables: Any, image: jax.Array, targets: SegmentTarget) -> "Started":
        """Run the model on an image and look at it through the box around the regions [R, ...]."""
        prepared = prepare(self.plan, variables, image)
        low, high = jax.vmap(bounding_box)(targets.region)
        # A region that is too large for the box would only push others out of it.
        small = jnp.all(high - low <= jnp.array(self.plan.region), axis=1)
        regions = jnp.any(targets.region & small[:, None, None], axis=0)
        corner = jnp.stack(
            [jnp.argmax(jnp.any(regions, axis=1 - d)).astype(jnp.int32) for d in (0, 1)]
        )
        limit = [n - side for n, side in zip(image.shape, self.plan.region, strict=False)]
        corner = jnp.minimum(corner, jnp.array(limit, jnp.int32))
        cut = functools.partial(_cut, corner=corner, shape=self.plan.region)
        region, reference = jax.vmap(cut)(targets.region), jax.vmap(cut)(targets.reference)
        box = dataclasses.replace(targets, region=region, reference=reference)
        return Started(
            prepared=prepared,
            corner=corner,
            targets=box,
            base=self._outcomes(cut(prepared.logits), box),
            fits=jnp.sum(region, axis=(1, 2)) == jnp.sum(targets.region, axis=(1, 2)),
        )

    def go_on(self, started: "Started", variables: Any) -> "Started":
        """What another engine started, for this one: the activations are the same."""
        prepared = started.prepared._replace(weights=operands_of(self.plan, variables))
        return dataclasses.replace(started, prepared=prepared)

    def reachable(self, started: "Started") -> jax.Array:
        """Blocks [rows, columns] that can change a logit in the box at all."""
        rows, columns = (
            jnp.asarray(self.plan.reaches[axis])[:, started.corner[d]]
            for d, axis in enumerate(("y", "x"))
        )
        return rows[:, None] & columns

    def sample(
        self, started: "Started", patches: Array, blocks: jax.Array, which: jax.Array
    ) -> jax.Array:
        """Effects [R, n, k] of patches `which` [n, k] on the blocks marked in [R, n].

        A block is evaluated if it is marked for any region; 0 where it is not marked for this one.
        """
        chunks = self._chunks(which)
        n, count = chunks.shape[:2]
        chosen, number = _compact(jnp.any(blocks, axis=0))

        def evaluate(jobs: jax.Array) -> jax.Array:
            return self._effects(started, patches, chunks, chosen[jobs // count], jobs % count)

        found = self._map(evaluate, number * count, n * count).reshape(n, -1, len(blocks))
        return _by_region(_scatter(found, chosen, number)[:, : which.shape[1]], blocks)

    def sample_until_settled(
        self,
        started: "Started",
        patches: Array,
        blocks: jax.Array,
        which: jax.Array,
        *,
        threshold: Array,
        confidence: float,
    ) -> Sample:
        """As `sample`, in rounds of `plan.num_patches`; settled blocks take no further part.

        What one region still wants does not count for those that have settled.
        """
        chunks = self._chunks(which)
        (n, k), per_round = which.shape, chunks.shape[2]

        def one_round(sample: Sample, turn: jax.Array) -> tuple[Sample, None]:
            so_far = estimate(sample)
            width = half_width(so_far, sample.count, confidence, k)
            going = blocks & ~settled(so_far, sample.count, width, threshold)
            chosen, number = _compact(jnp.any(going, axis=0))

            def evaluate(jobs: jax.Array) -> jax.Array:
                return self._effects(started, patches, chunks, chosen[jobs], turn)

            found = _scatter(self._map(evaluate, number, n), chosen, number)
            effects = lax.dynamic_update_slice(
                sample.effects, _by_region(found, going), (0, 0, turn * per_round)
            )
            made = jnp.minimum((turn + 1) * per_round, k)
            return Sample(effects, jnp.where(going, made, sample.count)), None

        effects = jnp.zeros((*blocks.shape, chunks.shape[1] * per_round))
        nothing = Sample(effects, jnp.zeros(blocks.shape, jnp.int32))
        sample, _ = lax.scan(one_round, nothing, jnp.arange(chunks.shape[1]))
        return Sample(sample.effects[..., :k], sample.count)

    def _effects(self, started, patches, chunks, block: jax.Array, chunk: Array) -> jax.Array:
        """Effects [lanes, p, R] of a chunk of patches on blocks [lanes]."""
        chunk = jnp.broadcast_to(chunk, block.shape)

        def one(block: jax.Array, chunk: jax.Array) -> jax.Array:
            columns = self.plan.reaches["x"].shape[0]
            place = Place(jnp.stack([block // columns, block % columns]), started.corner)
            height, width = self.plan.block  # of the image, where that is smaller than a block
            chosen = patches[chunks[block, chunk], :height, :width]
            logits = intervene(self.plan, started.prepared, place, chosen)
            found = jax.vmap(self._outcomes, in_axes=(0, None))(logits, started.targets)
            return found - started.base

        if self.lanes == 1:  # plain slices are cheaper than gathers of one
            return one(block[0], chunk[0])[None]
        return jax.vmap(one)(block, chunk)

    def _outcomes(self, logits: jax.Array, targets: SegmentTarget) -> jax.Array:
        """Of the same logits [h, w, K] in every region: [R]."""
        return jax.vmap(self.outcome, in_axes=(None, 0))(logits, targets)

    def _chunks(self, which: jax.Array) -> jax.Array:
        """int32 [n, chunks, p]; the last chunk is filled up with repetitions."""
        per_call = self.plan.num_patches
        filled = jnp.pad(which, ((0, 0), (0, -which.shape[1] % per_call)), mode="edge")
        return filled.reshape(len(which), -1, per_call)

    def _map(self, evaluate: Any, count: jax.Array, capacity: int) -> jax.Array:
        return map_jobs(
            evaluate,
            count,
            capacity=capacity,
            batch_size=self.lanes,
            num_devices=self.num_devices,
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Started:
    """An image that interventions are about to be made on.

    Attributes:
      prepared: activations of the unperturbed image.
      corner: int32 [2], first row and column of the box around the regions.
      targets: [R, ...], regions and references in the box.
      base: float32 [R], outcomes in points.
      fits: bool [R], whether the whole region lies in the box.
    """

    prepared: Prepared
    corner: Array
    targets: SegmentTarget
    base: Array
    fits: Array


def make_engine(
    predict: Predict,
    variables: Any,
    image_shape: tuple[int, int, int],
    *,
    block_size: int,
    region_side: int | None,
    num_regions: int,
    num_patches: int,
    round_size: int | None,
    batch_size: int | None,
    outcome: Outcome,
    mesh: jax.sharding.Mesh,
) -> Engine:
    """The engine for `num_patches` interventions per block.

    Args:
      predict: the model.
      variables: its weights.
      image_shape: (H, W, C).
      block_size: side of the blocks.
      region_side: side of a box that holds the regions; None for the whole image.
      num_regions: R.
      num_patches: k.
      round_size: so many of the k at once, whatever `batch_size`, where sampling may stop between
        them and must not depend on it; None where it cannot stop.
      batch_size: interventions that a device evaluates at a time; None fits its memory.
      outcome: of an input, in one region.
      mesh: the devices.
    """
    height, width, _ = image_shape
    side = max(height, width) if region_side is None else region_side
    region = (min(side, height), min(side, width))
    block = (min(block_size, height), min(block_size, width))
    plan_for = functools.partial(
        make_plan, predict, variables, image_shape, block=block, region=region
    )
    device = mesh.devices.flat[0]
    if batch_size is None:
        batch_size = _fitting(device, plan_for, num_regions)
    per_call = min(round_size or equal_batches(num_patches, batch_size), num_patches)
    # No more lanes than give every device some.
    blocks = -(-height // block[0]) * -(-width // block[1])
    calls = blocks * -(-num_patches // per_call)
    lanes = min(max(1, batch_size // per_call), -(-calls // mesh.size))
    return Engine(plan_for(num_patches=per_call), lanes, outcome, mesh.size)


def _fitting(device: Any, plan_for: Any, num_regions: int) -> int:
    """Interventions at a time that a device has room for."""
    if device.platform == "cpu":
        return _CPU_BATCH
    limit = (device.memory_stats() or {}).get("bytes_limit", 8 << 30)
    plan = plan_for(num_patches=1)
    # Every region has a number per pixel of the box.
    needed = plan.window_bytes + 4 * num_regions * plan.region[0] * plan.region[1]
    return int(min(_MOST, max(1, _MEMORY_SHARE * limit // needed)))


def _compact(blocks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Numbers of the marked blocks, first come first, and how many they are."""
    return jnp.nonzero(blocks, size=blocks.size, fill_value=0)[0], jnp.sum(blocks)


def _scatter(found: jax.Array, chosen: jax.Array, number: jax.Array) -> jax.Array:
    """Rows of the compacted blocks back to their places; 0 elsewhere."""
    # Past the chosen blocks comes the fill index: it must not write.
    where = jnp.where(jnp.arange(chosen.size) < number, chosen, chosen.size)
    return jnp.zeros_like(found).at[where].set(found, mode="drop")


def _by_region(found: jax.Array, blocks: jax.Array) -> jax.Array:
    """[n, k, R] -> [R, n, k], 0 where a block is not marked for the region in [R, n]."""
    return jnp.where(blocks[..., None], jnp.moveaxis(found, -1, 0), 0.0)


def _cut(array: jax.Array, corner: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """The box of [H, W, ...] at a corner."""
    rest = array.ndim - 2
    return lax.dynamic_slice(array, (*corner, *(0,) * rest), (*shape, *array.shape[2:]))
