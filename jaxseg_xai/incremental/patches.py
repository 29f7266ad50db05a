"""Interventions on images that a network sees patch by patch: runs a `SlidingPlan`."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg_xai.core.types import Array
from jaxseg_xai.incremental.evaluate import Place, Prepared, intervene, operands_of, prepare
from jaxseg_xai.incremental.reading import Nth, part_of
from jaxseg_xai.incremental.sliding import SlidingPlan
from jaxseg_xai.ops.blocks import block_corner, grid_shape
from jaxseg_xai.ops.control import only_if
from jaxseg_xai.ops.layers import pad_to


class Patches(NamedTuple):
    """What all interventions on one image share, seen through one box.

    Attributes:
      variables: the model's weights.
      image: [*padded, C].
      corner: int32 [rank], first pixel of the box in it.
      first: int32 [rank], along each axis the first of the `shown` patches.
      box: float32 [*r, K], the image's logits in the box.
      logits: float32 [n, *P, K], of each of these patches by itself.
      sources: their activations, see `Prepared`; {} where patches are evaluated whole.
      weights: see `Prepared`.
    """

    variables: Any
    image: jax.Array
    corner: jax.Array
    first: jax.Array
    box: jax.Array
    logits: jax.Array
    sources: dict[str, jax.Array]
    weights: dict[int, jax.Array]

    def of(self, number: jax.Array) -> Prepared:
        """One of the patches."""
        sources = {name: Nth(source, number) for name, source in self.sources.items()}
        logits = lax.dynamic_index_in_dim(self.logits, number, keepdims=False)
        return Prepared(logits, sources, self.weights)


def prepare_patches(
    plan: SlidingPlan, variables: Any, image: jax.Array, logits: jax.Array, corner: Array
) -> Patches:
    """Run the network on the patches that see a box.

    Args:
      plan: from `make_sliding_plan`.
      variables: the model's weights.
      image: [*S, C].
      logits: float32 [*S, K], the model's of the image.
      corner: int32 [rank], first pixel of the box in it.
    """
    box = lax.dynamic_slice(logits, (*corner, 0), (*plan.region, logits.shape[-1]))
    image = pad_to(image[None], plan.padded)[0]
    corner = jnp.asarray(corner, jnp.int32) + jnp.array(plan.before, jnp.int32)
    first = _first_of(plan, corner)

    def one(number: jax.Array) -> tuple[jax.Array, Any]:
        start = _start_of(plan, first, number)
        ends = start + jnp.array(plan.sides), corner + jnp.array(plan.region)

        def look() -> tuple[jax.Array, Any]:
            patch = lax.dynamic_slice(image, (*start, 0), (*plan.sides, image.shape[-1]))
            if not plan.windowed:
                return plan.segmenter.logits(variables, patch[None])[0], {}
            found = prepare(plan.patch, variables, patch)
            return found.logits, found.sources

        # Of most boxes fewer than the `shown` patches see anything.
        return only_if(jnp.all((start < ends[1]) & (corner < ends[0])), look)

    own, sources = lax.map(one, jnp.arange(math.prod(plan.shown)))
    weights = weights_of(plan, variables)
    return Patches(variables, image, corner, first, box, own, sources, weights)


def weights_of(plan: SlidingPlan, variables: Any) -> dict[int, jax.Array]:
    """`Patches.weights`."""
    return operands_of(plan.patch, variables) if plan.windowed else {}


def intervene_in_patches(
    plan: SlidingPlan, patches: Patches, block: Array, held: jax.Array
) -> jax.Array:
    """The logits in the box when others are put in the place of a block; see `intervene`.

    Args:
      plan: from `make_sliding_plan`.
      patches: from `prepare_patches`.
      block: int32 [rank], position of the block along each axis.
      held: [p, *b, C], what the block holds in p interventions.

    Returns:
      float32 [p, *r, K].
    """
    low = _low_of(plan, block)
    near, near_start = _around(plan, patches.image, held, low)
    count, region, channels = len(held), plan.patch.region, patches.box.shape[-1]
    # What patches see beside the box goes into margins around it.
    margins = [
        0 if box == n else seen
        for box, n, seen in zip(plan.region, plan.padded, region, strict=True)
    ]
    weight = jnp.asarray(plan.weight[..., None])

    def add(turn: jax.Array, total: jax.Array) -> jax.Array:
        number = chosen[turn]
        start = _start_of(plan, patches.first, number)
        place, seen = _inside(plan, start, low, patches.corner)
        inside = lax.dynamic_slice(
            near,
            (0, *(start + place - near_start), 0),
            (count, *plan.patch.block, near.shape[-1]),
        )
        patch = patches.of(number)
        if plan.windowed:
            where = Place(place // jnp.array(plan.step), seen)
            found = intervene(plan.patch, patch, where, inside)
        else:
            found = _whole(plan, patches, start, place, inside)
            found = lax.dynamic_slice(found, (0, *seen, 0), (count, *region, channels))
        before = part_of(Nth(patches.logits, number), (*seen, 0), (*region, channels))
        more = lax.dynamic_slice(weight, (*seen, 0), (*region, 1)) * (found - before)
        at = (0, *(start + seen - patches.corner + jnp.array(margins)), 0)
        so_far = lax.dynamic_slice(total, at, more.shape)
        return lax.dynamic_update_slice(total, so_far + more, at)

    touched = _touched(plan, patches.corner, patches.first, low)
    chosen = jnp.nonzero(touched, size=touched.size, fill_value=0)[0]
    sides = [box + 2 * margin for box, margin in zip(plan.region, margins, strict=True)]
    nothing = jnp.zeros((count, *sides, channels), jnp.float32)
    total = lax.fori_loop(0, jnp.sum(touched), add, nothing)
    total = total[:, *(slice(m, m + box) for m, box in zip(margins, plan.region, strict=True))]
    weights = jnp.asarray(plan.total_weight[..., None], jnp.float32)
    return patches.box + total / lax.dynamic_slice(weights, (*patches.corner, 0), (*plan.region, 1))


def reachable(plan: SlidingPlan, corner: Array) -> jax.Array:
    """Blocks bool [*G] that can change a logit in the box at all.

    Args:
      plan: from `make_sliding_plan`.
      corner: int32 [rank], first pixel of the box in the image.
    """
    grid = grid_shape_of(plan)
    corner = jnp.asarray(corner, jnp.int32) + jnp.array(plan.before, jnp.int32)
    first = _first_of(plan, corner)

    def one(number: jax.Array) -> jax.Array:
        low = _low_of(plan, block_corner(number, grid))
        return jnp.any(_touched(plan, corner, first, low))

    return jax.vmap(one)(jnp.arange(math.prod(grid))).reshape(grid)


def seen_pixels(plan: SlidingPlan, corner: Array) -> jax.Array:
    """Pixels bool [*S] that the logits in a box depend on, or some more; see `reachable`."""
    corner = jnp.asarray(corner, jnp.int32) + jnp.array(plan.before, jnp.int32)
    shape, seen = plan.image_shape[:-1], jnp.bool(True)
    for d, (n, starts, axis) in enumerate(zip(shape, plan.starts, plan.patch.axes, strict=True)):
        start, pixel = jnp.asarray(starts, jnp.int32), jnp.arange(n) + plan.before[d]
        sees = (start < corner[d] + plan.region[d]) & (corner[d] < start + plan.sides[d])
        low, high = start, start + plan.sides[d]
        if axis in plan.patch.needs:
            place = jnp.clip(corner[d] - start, 0, plan.sides[d] - plan.patch.region[d])
            low, high = (
                start + jnp.asarray(end, jnp.int32)[place] for end in plan.patch.needs[axis]
            )
        held = (pixel >= low[:, None]) & (pixel < high[:, None])
        seen = seen[..., None] & jnp.any(held & sees[:, None], axis=0)
    return seen


def grid_shape_of(plan: SlidingPlan) -> tuple[int, ...]:
    """How many blocks lie along each axis."""
    return tuple(
        grid_shape((n,), side)[0] for n, side in zip(plan.image_shape[:-1], plan.block, strict=True)
    )


def _low_of(plan: SlidingPlan, block: Array) -> jax.Array:
    """First pixel of a block in the image with its zeros."""
    first = jnp.asarray(block, jnp.int32) * jnp.array(plan.block, jnp.int32)
    return first + jnp.array(plan.before, jnp.int32)


def _first_of(plan: SlidingPlan, corner: jax.Array) -> jax.Array:
    """Along each axis the first of the `shown` patches: no more fit before the end."""
    found = []
    for d, (starts, side) in enumerate(zip(plan.starts, plan.sides, strict=True)):
        past = jnp.sum(jnp.asarray(starts + side, jnp.int32) <= corner[d])
        found.append(jnp.minimum(past, len(starts) - plan.shown[d]))
    return jnp.stack(found).astype(jnp.int32)


def _start_of(plan: SlidingPlan, first: jax.Array, number: jax.Array) -> jax.Array:
    """First pixel of the patch of a number among the shown ones, int32 [rank]."""
    places = first + block_corner(number, plan.shown)
    starts = (jnp.asarray(starts, jnp.int32) for starts in plan.starts)
    return jnp.stack([start[places[d]] for d, start in enumerate(starts)])


def _inside(
    plan: SlidingPlan, start: jax.Array, low: jax.Array, corner: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """First pixels of block and box in a patch, as near to where they are as they fit."""

    def fitted(first: jax.Array, sides: tuple[int, ...]) -> jax.Array:
        free = [whole - side for whole, side in zip(plan.sides, sides, strict=True)]
        return jnp.clip(first - start, 0, jnp.array(free, jnp.int32))

    return fitted(low, plan.patch.block), fitted(corner, plan.patch.region)


def _touched(plan: SlidingPlan, corner: jax.Array, first: jax.Array, low: jax.Array) -> jax.Array:
    """Which of the shown patches a block can change where the box is seen, bool [n]."""
    touched = jnp.bool(True)
    for d, axis in enumerate(plan.patch.axes):
        numbers = first[d] + jnp.arange(plan.shown[d])
        start = jnp.asarray(plan.starts[d], jnp.int32)[numbers]
        end, side, box = start + plan.sides[d], plan.patch.block[d], plan.patch.region[d]
        high = jnp.minimum(low[d] + plan.block[d], plan.before[d] + plan.image_shape[d])
        meets = (start < high) & (low[d] < end)
        meets &= (start < corner[d] + plan.region[d]) & (corner[d] < end)
        place = jnp.clip(low[d] - start, 0, plan.sides[d] - side) // plan.step[d]
        seen = jnp.clip(corner[d] - start, 0, plan.sides[d] - box)
        meets &= jnp.asarray(plan.patch.reaches[axis])[place, seen]
        touched = touched[..., None] & meets
    return touched.ravel()


def _around(
    plan: SlidingPlan, image: jax.Array, held: jax.Array, low: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The image around a block that holds others [p, *b, C]: [p, *n, C], and its first pixel."""
    sizes = [min(3 * side, n) for side, n in zip(plan.block, plan.padded, strict=True)]
    most = [n - size for n, size in zip(plan.padded, sizes, strict=True)]
    start = jnp.clip(low - jnp.array(plan.block), 0, jnp.array(most)).astype(jnp.int32)
    near = lax.dynamic_slice(image, (*start, 0), (*sizes, image.shape[-1]))
    # The last blocks are cut off where the image ends.
    extra = [(0, -n % side) for n, side in zip(plan.image_shape[:-1], plan.block, strict=True)]
    canvas = jnp.pad(near, [*extra, (0, 0)])
    canvas = jnp.broadcast_to(canvas, (len(held), *canvas.shape))
    found = lax.dynamic_update_slice(canvas, held, (0, *(low - start), 0))
    found = found[:, *map(slice, sizes)]
    for d, n in enumerate(plan.image_shape[:-1]):
        if extra[d][1]:
            inside = start[d] + jnp.arange(sizes[d]) < plan.before[d] + n
            shape = [-1 if axis == d else 1 for axis in range(near.ndim)]
            found = jnp.where(inside.reshape(shape), found, near)
    return found, start


def _whole(
    plan: SlidingPlan, patches: Patches, start: jax.Array, place: jax.Array, held: jax.Array
) -> jax.Array:
    """Logits [p, *P, K] of a patch that holds others [p, *b, C] at a place."""
    channels = held.shape[-1]
    patch = lax.dynamic_slice(patches.image, (*start, 0), (*plan.sides, channels))
    copies = jnp.broadcast_to(patch, (len(held), *patch.shape))
    changed = lax.dynamic_update_slice(copies, held, (0, *place, 0))
    return plan.segmenter.logits(patches.variables, changed)
