"""Stage 1 of MiSuRe: dilate the segment until the model finds it again."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxseg_xai.core.output_spec import OutputSpec
from jaxseg_xai.core.types import SegmentTarget
from jaxseg_xai.devices.lanes import run_lanes, select_jobs
from jaxseg_xai.explainers.misure.stages import Stage2, dice_of, grown_to
from jaxseg_xai.explainers.misure.windows import View
from jaxseg_xai.ops.dilation import dilate, ellipse
from jaxseg_xai.ops.padding import own_pixels


class _Growing(NamedTuple):
    """Stage 1 of a job.

    Attributes:
      layers: int32 [*S], as in `Job`, so far.
      trace: float32 [max_dilations + 1], hard Dice after every dilation; NaN where there was none.
      dilations: int32 [], how many so far.
      stopped: bool [], whether the last region that was tried is the result.
    """

    layers: jax.Array
    trace: jax.Array
    dilations: jax.Array
    stopped: jax.Array

    @property
    def mask(self) -> jax.Array:
        """The region to try next."""
        return grown_to(self.layers, self.dilations)


def sufficient_regions(
    search: Stage2,
    output: OutputSpec,
    views: Sequence[View],
    images: jax.Array,
    targets: SegmentTarget,
    wanted: jax.Array,
    num_lanes: int,
    sizes: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Stage 1 of many jobs; a step is one forward pass of one job.

    A job is seen through the first view that holds its mask. When the mask has outgrown the view,
    the job continues in the next one.

    Args:
      search: the settings.
      output: what logits mean.
      views: the last one holds every mask.
      images: float32 [B, *S, C].
      targets: leaves [B, ...].
      wanted: bool [B], the jobs to do.
      num_lanes: jobs at a time.
      sizes: int32 [B, rank], of the images without their padding, which no dilation enters; or
        None.

    Returns:
      (layers int32 [B, *S]; hard Dice after every dilation, float32 [B, max_dilations + 1],
      NaN-padded). All NaN for a job that is not wanted.
    """
    element, most = ellipse(search.element_size, images.ndim - 2), search.max_dilations
    never = most + 1

    def begin(target: SegmentTarget) -> _Growing:
        layers = jnp.where(target.segment, 0, never)
        return _Growing(layers, jnp.full(most + 1, jnp.nan), jnp.int32(0), jnp.bool(False))

    def grow_in(view: View, growing: _Growing) -> _Growing:
        """Continue the jobs that the view holds, until they stop or outgrow it."""

        def continues(now: _Growing, region: jax.Array) -> jax.Array:
            return ~now.stopped & view.holds(now.mask, region)

        def step(state: tuple[jax.Array, _Growing]) -> tuple[jax.Array, _Growing]:
            number, now = state
            image, target = jax.tree.map(lambda leaf: leaf[number], (images, targets))
            mask, count = now.mask, now.dilations
            logits = view.logits(view.locate(mask, target.region), image, mask)
            trace = now.trace.at[count].set(dice_of(output, logits, target))
            stopped = (trace[count] >= search.tau) | (count == most)
            reached = dilate(mask, element) & ~mask
            if sizes is not None:
                reached &= own_pixels(sizes[number], mask.shape)
            grown = jnp.where(reached, count + 1, now.layers)
            layers = jnp.where(stopped, now.layers, grown)
            return number, _Growing(layers, trace, jnp.where(stopped, count, count + 1), stopped)

        held = wanted & jax.vmap(continues)(growing, targets.region)
        further, _ = run_lanes(
            lambda number: (number, jax.tree.map(lambda leaf: leaf[number], growing)),
            step,
            lambda state: ~continues(state[1], targets.region[state[0]]),
            lambda state: state[1],
            held,
            num_lanes=num_lanes,
        )
        return jax.tree.map(functools.partial(select_jobs, held), further, growing)

    growing = jax.vmap(begin)(targets)
    for view in views:
        growing = grow_in(view, growing)
    return (
        select_jobs(wanted, growing.layers, jnp.full_like(growing.layers, never)),
        select_jobs(wanted, growing.trace, jnp.full_like(growing.trace, jnp.nan)),
    )
