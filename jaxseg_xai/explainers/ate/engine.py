"""Interventions on the blocks of one image, dealt out to the devices: what all engines share.

An engine puts patches into blocks and measures the outcome in the R regions of the image. How the
changed image is evaluated is its own matter: in windows (`windowed`), or as a whole (`whole`).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.segmenter import Segmenter
from jaxseg_xai.core.types import Array, SegmentTarget
from jaxseg_xai.devices.jobs import equal_batches, map_jobs
from jaxseg_xai.explainers.ate.statistics import Sample, estimate, half_width, settled
from jaxseg_xai.ops.blocks import bounding_box, grid_shape
from jaxseg_xai.outcomes import Outcome


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Started:
    """An image that interventions are about to be made on.

    Attributes:
      prepared: what interventions read of the unperturbed image; the engine's own.
      logits: float32 [*S, K] of the unperturbed image.
      corner: int32 [rank], first pixel of the box around the regions.
      targets: [R, ...], regions and references in the box.
      base: float32 [R], outcomes of the unperturbed image.
      fits: bool [R], whether the whole region lies in the box.
      kept: of an image with padding, which no patch enters: its blocks [n, *(b,), C], and which of
        their pixels a patch may change, bool [n, *(b,), 1]; or None.
    """

    prepared: Any
    logits: Array
    corner: Array
    targets: SegmentTarget
    base: Array
    fits: Array
    kept: tuple[Array, Array] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What an engine is made for.

    Attributes:
      shape: (*S, C) of the images.
      block_size: side of the blocks.
      region_side: side of a box that holds the regions; None for the whole image.
      num_regions: R.
      num_patches: k, interventions per block.
      round_size: so many of the k at once, whatever `batch_size`, where sampling may stop between
        them and must not depend on it; None where it cannot stop.
      batch_size: interventions that a device evaluates at a time; None fits its memory.
    """

    shape: tuple[int, ...]
    block_size: int
    region_side: int | None
    num_regions: int
    num_patches: int
    round_size: int | None
    batch_size: int | None

    @property
    def box(self) -> tuple[int, ...]:
        """Sides of the box around the regions, one per axis."""
        *shape, _ = self.shape
        side = max(shape) if self.region_side is None else self.region_side
        return tuple(min(side, size) for size in shape)

    @property
    def grid(self) -> tuple[int, ...]:
        """How many blocks lie along each axis."""
        return grid_shape(self.shape[:-1], self.block_size)

    def per_call(self, batch_size: int) -> int:
        """Patches on one block at once, where a device evaluates up to `batch_size` of them."""
        equal = equal_batches(self.num_patches, batch_size)
        return min(self.round_size or equal, self.num_patches)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Engine:
    """Evaluates interventions; one per traced program, not per image.

    Attributes:
      output: what logits mean.
      outcome: of an input, in one region.
      box: sides of the box around the regions, one per axis; all else of the output is ignored.
      per_call: patches on one block that are evaluated at once.
      lanes: blocks at a time.
      num_devices: size of the mesh.
    """

    output: OutputSpec
    outcome: Outcome
    box: tuple[int, ...]
    per_call: int
    lanes: int
    num_devices: int

    @classmethod
    def build(
        cls, segmenter: Segmenter, variables: Any, outcome: Outcome, work: Work, mesh: Mesh
    ) -> "Engine":
        """The engine of a model for some work, on the devices of a mesh."""
        raise NotImplementedError

    def start(self, variables: Any, image: jax.Array, targets: SegmentTarget) -> Started:
        """Run the model on an image [*S, C] and look at it through the box around its regions.

        Args:
          variables: the model's weights.
          image: float32 [*S, C].
          targets: [R, ...], leaves [R, *S].
        """
        raise NotImplementedError

    def share(self, started: Started, variables: Any) -> Started:
        """What another engine of the same model and box started, for this one."""
        raise NotImplementedError

    def reachable(self, started: Started) -> jax.Array:
        """Blocks bool [*G] that can change a logit in the box at all."""
        raise NotImplementedError

    def seen(self, started: Started) -> jax.Array:
        """Pixels bool [*S] that the logits in the box depend on, or some more; all, as here."""
        return jnp.ones(started.logits.shape[:-1], bool)

    def logits_of(self, started: Started, patches: jax.Array, block: jax.Array) -> jax.Array:
        """Logits [p, *box, K] with patches [p, *(b,), C] in the place of a block (its number)."""
        raise NotImplementedError

    def sample(
        self, started: Started, patches: Array, blocks: jax.Array, which: jax.Array
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
        started: Started,
        patches: Array,
        blocks: jax.Array,
        which: jax.Array,
        *,
        threshold: Array,
        confidence: float,
    ) -> Sample:
        """As `sample`, in rounds of `per_call`; settled blocks take no further part.

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

    def look(self, prepared: Any, logits: jax.Array, targets: SegmentTarget) -> Started:
        """`start` with the logits [*S, K] of the image at hand: find the box and what is in it."""
        low, high = jax.vmap(bounding_box)(targets.region)
        # A region that is too large for the box would only push others out of it.
        small = jnp.all(high - low <= jnp.array(self.box), axis=1)
        rank = len(self.box)
        axes, pixels = range(rank), tuple(range(1, rank + 1))
        regions = jnp.any(targets.region & jnp.expand_dims(small, pixels), axis=0)
        others = [tuple(e for e in axes if e != d) for d in axes]
        corner = jnp.stack([jnp.argmax(jnp.any(regions, axis=e)).astype(jnp.int32) for e in others])
        limit = [n - side for n, side in zip(logits.shape, self.box, strict=False)]
        corner = jnp.minimum(corner, jnp.array(limit, jnp.int32))
        box = functools.partial(cut, corner=corner, shape=self.box)
        region, reference = jax.vmap(box)(targets.region), jax.vmap(box)(targets.reference)
        inside = dataclasses.replace(targets, region=region, reference=reference)
        return Started(
            prepared=prepared,
            logits=logits,
            corner=corner,
            targets=inside,
            base=self.outcomes(box(logits), inside),
            fits=jnp.sum(region, axis=pixels) == jnp.sum(targets.region, axis=pixels),
        )

    def _effects(self, started, patches, chunks, block: jax.Array, chunk: Array) -> jax.Array:
        """Effects [lanes, p, R] of a chunk of patches on blocks [lanes]."""
        chunk = jnp.broadcast_to(chunk, block.shape)

        def one(block: jax.Array, chunk: jax.Array) -> jax.Array:
            put = patches[chunks[block, chunk]]
            if started.kept is not None:
                own, open_to = (leaf[block] for leaf in started.kept)
                put = jnp.where(open_to, put, own)
            logits = self.logits_of(started, put, block)
            found = jax.vmap(self.outcomes, in_axes=(0, None))(logits, started.targets)
            return found - started.base

        if self.lanes == 1:  # plain slices are cheaper than gathers of one
            return one(block[0], chunk[0])[None]
        return jax.vmap(one)(block, chunk)

    def outcomes(self, logits: jax.Array, targets: SegmentTarget) -> jax.Array:
        """Of the same logits [*box, K] in every region: [R]."""
        value = functools.partial(self.outcome.value, self.output)
        return jax.vmap(value, in_axes=(None, 0))(logits, targets)

    def _chunks(self, which: jax.Array) -> jax.Array:
        """int32 [n, chunks, p]; the last chunk is filled up with repetitions."""
        filled = jnp.pad(which, ((0, 0), (0, -which.shape[1] % self.per_call)), mode="edge")
        return filled.reshape(len(which), -1, self.per_call)

    def _map(self, evaluate: Any, count: jax.Array, capacity: int) -> jax.Array:
        return map_jobs(
            evaluate,
            count,
            capacity=capacity,
            batch_size=self.lanes,
            num_devices=self.num_devices,
        )


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


def cut(array: jax.Array, corner: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The box of [*S, ...] at a corner."""
    rank = len(shape)
    return lax.dynamic_slice(
        array, (*corner, *(0,) * (array.ndim - rank)), (*shape, *array.shape[rank:])
    )
