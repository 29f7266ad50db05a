"""Block groups: the smallest groups of blocks that decide, whatever their blocks share."""

import dataclasses
import math
from typing import ClassVar, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.base import Example, Meta, Parts, Problem
from jaxseg_xai.explainers.perturbation.base import Perturbation
from jaxseg_xai.explainers.perturbation.elimination import eliminate, most_tries
from jaxseg_xai.explainers.perturbation.engine import Evaluator, View, engine_of, one_target
from jaxseg_xai.ops.baselines import Baseline
from jaxseg_xai.ops.blocks import any_in_block, grid_shape, paint_blocks, split_blocks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockGroups(Perturbation):
    """Groups of blocks that are necessary together, or sufficient together, found by elimination.

    Replacing one block does not show a cause that several blocks share: where two cues are each
    enough, the outcome stays when either goes. With O1 the outcome of the image and O0 that of the
    image without any block outside of the region R, the outcome holds above
    tau = O0 + level (O1 - O0). Then, visiting the blocks in some order,

    - a necessary group begins with all blocks. A block is given back where the outcome still does
      not hold: what is left must go together to end the segmentation (every one of two cues that
      are each enough);
    - a sufficient group begins with all blocks, too. A block is taken away where the outcome still
      holds: what is left is enough with R alone (both of two cues that only act together).

    Many blocks are visited at once, half as many where that is too much (see `elimination`), so
    that where few blocks decide there are far fewer evaluations than blocks. Where the outcome only
    rises with what is shown, no block of a group can be spared, and the group is that of one block
    after the other; elsewhere it may be another that holds as well. Visited first, and so most
    easily spared, are the blocks of the smallest effect e(b): what hiding b alone takes from O1 and
    showing b alone adds to O0. Several orders, drawn where effects differ by less than `threshold`,
    give one group of either kind each. Where O1 < O0 the blocks speak against the segment, and what
    holds is an outcome below tau.

    Attribution float32 [*S] in [-1, 1], constant on blocks, 0 in those that touch R: the mean over
    all groups of 1 / (blocks of the group) for those that are in it, which sums to 1 over the
    blocks; negative where O1 < O0. Maps: `necessary` and `sufficient`, bool [*S], the smallest
    group of each kind. Scores: `outcome` O1 and `outcome_hidden` O0; `num_necessary` and
    `num_sufficient`, blocks of the smallest groups; `outcome_without` the necessary one, and
    `outcome_alone` of the sufficient one with R; `area_target` in pixels.

    e(b) comes from windows: only what the block changes and the region sees is computed. What is
    visited is scattered over the image, so that any of it may change; a box around the region
    (`region_side`) still saves what the region does not see.

    Attributes:
      block_size: side of a block in pixels.
      num_orders: orders in which blocks are visited.
      level: how much of O1 - O0 must be left for the outcome to hold.
      threshold: effects that differ by less are taken in any order; where |O1 - O0| is not above
        it there is no group, and the map is 0. In the outcome's unit.
      outcome: this and what hidden blocks hold: see `Perturbation`.

    References:
      Necessary and sufficient groups are the minimal contrastive and abductive explanations of
      Ignatiev et al., arXiv 2012.11067, found by deletion one after the other; a threshold of
      the outcome stands in the place of the class. The attribution is the index of Deegan and
      Packel, 1978 (doi 10.1007/BF01753239), over the groups that were found.
    """

    name: ClassVar[str] = "block_groups"
    meta: ClassVar[Meta] = Meta(
        target="reference",
        unit="share",
        signed=True,
        note="Red: the block is in the smallest groups without which the segmentation ends, or "
        "which alone keep it.",
        caption="Image {outcome:.1f}; without {num_necessary:.0f} blocks {outcome_without:.1f}; "
        "with {num_sufficient:.0f} blocks alone {outcome_alone:.1f}.",
        scores={
            "outcome": "outcome of the image",
            "area_target": "pixels explained",
            "outcome_hidden": "outcome without any block outside the region",
            "num_necessary": "blocks of the smallest necessary group",
            "num_sufficient": "blocks of the smallest sufficient group",
            "outcome_without": "outcome without the smallest necessary group",
            "outcome_alone": "outcome of the smallest sufficient group and the region alone",
        },
    )
    block_size: int = setting(8, static=True, at_least=1)
    num_orders: int = setting(4, static=True, at_least=1)
    level: float = setting(0.5, above=0, below=1)
    threshold: float = setting(10.0, at_least=0)
    baseline: Baseline = setting("mean", static=True, choices=get_args(Baseline))

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`: the most; where few blocks decide, it takes far fewer."""
        blocks = math.prod(grid_shape(shape[:-1], self.block_size))
        searched = 2 * self.num_orders * most_tries(blocks)
        return (2 * (blocks + 1) + searched) * self.num_baselines

    def explain_on(self, mesh: Mesh, problem: Problem, example: Example) -> Parts:
        """See `Perturbation.explain_on`."""
        side, shape = self.block_size, example.image.shape[:-1]
        grid = grid_shape(shape, side)
        own = jnp.broadcast_to(example.own, (*shape, 1))[..., 0]
        free = any_in_block(own, side) & ~any_in_block(example.target.region, side)
        evaluator = Evaluator(self, mesh, problem, example, 2 * self.num_orders)
        view, free = evaluator.view, free.ravel()

        def paint(values: jax.Array) -> jax.Array:
            return paint_blocks(values.reshape(grid), side, shape)

        whole = view.started.base[0]
        hidden, gained = self._single_blocks(mesh, problem, example, view, free)
        sign = jnp.sign(whole - hidden)
        effects = sign * gained
        matters = (jnp.abs(whole - hidden) > self.threshold) & view.usable
        tau = hidden + self.level * (whole - hidden)

        number = self.num_orders
        give = jnp.arange(2 * number) < number
        keys = jax.vmap(jax.random.fold_in, (None, 0))(example.key, jnp.arange(number))
        chance = jax.vmap(lambda key: jax.random.uniform(key, effects.shape))(keys)
        ordered = jnp.where(free, effects + self.threshold * chance, jnp.inf)

        def values_of(spared: jax.Array, asked: jax.Array) -> jax.Array:
            """Outcomes where spared blocks are shown (first half) or hidden (second half)."""
            shown = (spared == give[:, None]) | ~free
            turn = jnp.argsort(~asked)  # those that are asked for come first
            found = evaluator.outcomes(
                lambda one: paint(shown[turn[one]])[..., None], jnp.sum(asked)
            )
            return jnp.zeros_like(found).at[turn].set(found)

        left = eliminate(
            values_of,
            lambda outcomes: (sign * (outcomes - tau) > 0) != give,
            jnp.tile(jnp.argsort(ordered, axis=1), (2, 1)),
            jnp.full(2 * number, jnp.where(matters, jnp.sum(free), 0)),
            jnp.where(give, hidden, whole),
        )
        groups = free & ~left.spared & matters
        sizes = jnp.sum(groups, axis=1)
        shares = groups / jnp.maximum(sizes, 1)[:, None]
        least = jnp.argmin(sizes[:number]), number + jnp.argmin(sizes[number:])
        parts = view.parts(
            example,
            paint(sign * jnp.mean(shares, axis=0)),
            {"necessary": paint(groups[least[0]]), "sufficient": paint(groups[least[1]])},
            outcome_hidden=hidden,
            num_necessary=sizes[least[0]].astype(jnp.float32),
            num_sufficient=sizes[least[1]].astype(jnp.float32),
            outcome_without=left.values[least[0]],
            outcome_alone=left.values[least[1]],
        )
        assert parts.finite is not None
        assert parts.status is not None
        return dataclasses.replace(
            parts,
            finite=parts.finite & left.sound,
            status=jnp.where(jnp.any(free), parts.status, Status.NO_BLOCKS).astype(jnp.int32),
        )

    def _single_blocks(
        self, mesh: Mesh, problem: Problem, example: Example, view: View, free: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Outcome O0 without any free block, [], and of every block e(b) where O1 > O0, [n]."""
        side, image, baselines = self.block_size, example.image, view.baselines
        shape, count = image.shape[:-1], len(baselines)
        engine = engine_of(
            self, mesh, problem, image.shape, num_copies=1, block_size=min(side, max(shape))
        )
        pixels = paint_blocks(free.reshape(grid_shape(shape, side)), side, shape)[..., None]
        # A block is hidden in the image, and shown in what is hidden as a whole.
        starts = jnp.concatenate([image[None]] * count + [jnp.where(pixels, baselines, image)])
        own = jnp.broadcast_to(
            split_blocks(image, side), (count, free.size, *(side,) * len(shape), image.shape[-1])
        )
        patches = jnp.concatenate([jax.vmap(split_blocks, (0, None))(baselines, side), own])

        def look_at(given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            start, put = given
            started = engine.start(problem.variables, start, one_target(example))
            wanted = free & engine.reachable(started).ravel() & view.usable
            each = jnp.arange(free.size)[:, None]
            return started.base[0], engine.sample(started, put, wanted[None], each)[0, :, 0]

        outcomes, effects = lax.map(look_at, (starts, patches))
        gained = jnp.mean(effects[count:], axis=0) - jnp.mean(effects[:count], axis=0)
        return jnp.mean(outcomes[count:]), gained
