"""Block groups: the smallest groups of blocks that decide, whatever their blocks share."""

import dataclasses
import math
from typing import ClassVar, get_args

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.fields import setting
from jaxseg_xai.core.types import Status
from jaxseg_xai.explainers.base import Example, Explainer, Meta, Parts, Problem
from jaxseg_xai.ops.baselines import OwnBaseline, baseline_images
from jaxseg_xai.ops.blocks import any_in_block, grid_shape, paint_blocks
from jaxseg_xai.outcomes import OUTCOMES, get_outcome


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockGroups(Explainer):
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

    No block of a group can be spared where the outcome only rises with what is shown. Visited
    first, and so most easily spared, are the blocks of the smallest effect e(b): what hiding b
    alone takes from O1 and showing b alone adds to O0. Several orders, drawn where effects differ
    by less than `threshold`, give one group of either kind each. Where O1 < O0 the blocks speak
    against the segment, and what holds is an outcome below tau.

    Attribution float32 [*S] in [-1, 1], constant on blocks, 0 in those that touch R: the mean over
    all groups of 1 / (blocks of the group) for those that are in it, which sums to 1 over the
    blocks; negative where O1 < O0. Maps: `necessary` and `sufficient`, bool [*S], the smallest
    group of each kind. Scores: `outcome` O1 and `outcome_hidden` O0; `num_necessary` and
    `num_sufficient`, blocks of the smallest groups; `outcome_without` the necessary one, and
    `outcome_alone` of the sufficient one with R.

    Every outcome is that of a whole image: groups are scattered, and no window holds them.

    Attributes:
      block_size: side of a block in pixels.
      num_orders: orders in which blocks are visited.
      level: how much of O1 - O0 must be left for the outcome to hold.
      threshold: effects that differ by less are taken in any order; where |O1 - O0| is not above
        it there is no group, and the map is 0. In the outcome's unit.
      baseline: what a hidden block holds: "zero" of the prepared (normalised) image, the image's
        "mean" colour, or the same image under a "blur".
      outcome: see `jaxseg_xai.outcomes`.
      batch_size: images that a device evaluates at a time.

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
    baseline: OwnBaseline = setting("mean", static=True, choices=get_args(OwnBaseline))
    outcome: str = setting("dice", static=True, choices=OUTCOMES)
    batch_size: int = setting(8, static=True, idle=True, at_least=1)

    def num_passes(self, shape: tuple[int, ...]) -> int:
        """See `Explainer.num_passes`."""
        blocks = math.prod(grid_shape(shape[:-1], self.block_size))
        return 2 * (self.num_orders + 1) * blocks + 1

    def explain_one(self, problem: Problem, example: Example) -> Parts:
        """See `Explainer.explain_one`."""
        segmenter, target, image = problem.segmenter, example.target, example.image
        outcome, side, shape = get_outcome(self.outcome), self.block_size, image.shape[:-1]
        grid = grid_shape(shape, side)
        own = jnp.broadcast_to(example.own, (*shape, 1))
        blank = baseline_images(self.baseline, image, size=example.size)[0]
        inside = any_in_block(own[..., 0], side)
        free = (inside & ~any_in_block(target.region, side)).ravel()

        def value(shown: jax.Array) -> jax.Array:
            """Outcome of an image in which some blocks, bool [n], are shown: float32 []."""
            pixels = paint_blocks(shown.reshape(grid), side, shape)[..., None]
            seen = jnp.where(pixels, image, blank)
            logits = segmenter.logits(problem.variables, seen[None])[0]
            return outcome.value(segmenter.output, logits, target)

        whole = outcome.value(segmenter.output, example.logits, target)
        hidden = value(~free)
        sign = jnp.sign(whole - hidden)
        each = jnp.eye(free.size, dtype=bool)
        alone = lax.map(value, each | ~free, batch_size=self.batch_size)
        without = lax.map(value, ~each | ~free, batch_size=self.batch_size)
        effects = sign * (whole - without + alone - hidden)
        tau = hidden + self.level * (whole - hidden)

        def visit(state: tuple, blocks: jax.Array) -> tuple[tuple, None]:
            """Show (first half) or hide (second half) one block of every order, where it may be."""
            shown, outcomes, sound = state
            tried = jax.vmap(lambda row, block, to: row.at[block].set(to))(shown, blocks, give)
            found = lax.map(value, tried, batch_size=self.batch_size)
            holds = sign * (found - tau) > 0
            accepted = (holds != give) & free[blocks]
            shown = jnp.where(accepted[:, None], tried, shown)
            outcomes = jnp.where(accepted, found, outcomes)
            return (shown, outcomes, sound & jnp.all(jnp.isfinite(found))), None

        number = self.num_orders
        give = jnp.arange(2 * number) < number
        keys = jax.vmap(jax.random.fold_in, (None, 0))(example.key, jnp.arange(number))
        chance = jax.vmap(lambda key: jax.random.uniform(key, effects.shape))(keys)
        orders = jnp.argsort(effects + self.threshold * chance, axis=1)
        shown = jnp.where(give[:, None], ~free, True)
        start = (shown, jnp.where(give, hidden, whole), jnp.isfinite(hidden))
        (shown, outcomes, sound), _ = lax.scan(visit, start, jnp.tile(orders, (2, 1)).T)

        # bool [2 orders, n]: what is hidden of the first half, what is shown of the second.
        matters = jnp.abs(whole - hidden) > self.threshold
        groups = (shown != give[:, None]) & free & matters
        sizes = jnp.sum(groups, axis=1)
        shares = groups / jnp.maximum(sizes, 1)[:, None]
        least = jnp.argmin(sizes[:number]), number + jnp.argmin(sizes[number:])

        def paint(values: jax.Array) -> jax.Array:
            return paint_blocks(values.reshape(grid), side, shape)

        return Parts(
            attribution=paint(sign * jnp.mean(shares, axis=0)),
            scores={
                "outcome": whole,
                "outcome_hidden": hidden,
                "num_necessary": sizes[least[0]].astype(jnp.float32),
                "num_sufficient": sizes[least[1]].astype(jnp.float32),
                "outcome_without": outcomes[least[0]],
                "outcome_alone": outcomes[least[1]],
            },
            maps={"necessary": paint(groups[least[0]]), "sufficient": paint(groups[least[1]])},
            finite=sound,
            status=jnp.where(jnp.any(free), Status.OK, Status.NO_BLOCKS).astype(jnp.int32),
        )
