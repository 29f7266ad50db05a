"""Outcomes of an image of which parts are hidden: masks go in, one number each comes out."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxseg_xai.core.types import SegmentTarget, Status
from jaxseg_xai.devices.jobs import map_jobs
from jaxseg_xai.explainers.ate.engine import Engine, Started
from jaxseg_xai.explainers.ate.whole import WholeEngine
from jaxseg_xai.explainers.ate.windowed import WindowedEngine
from jaxseg_xai.explainers.base import Example, Parts, Problem
from jaxseg_xai.explainers.perturbation.base import Perturbation
from jaxseg_xai.explainers.runner import all_finite, first_status
from jaxseg_xai.ops.baselines import baseline_images
from jaxseg_xai.outcomes import get_outcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """An image and its region, as an engine sees them.

    Attributes:
      engine: evaluates copies of the image.
      started: what it keeps of the image.
      baselines: float32 [N, *S, C], what is put in the place of hidden pixels.
      usable: bool [], whether there is anything to explain; nothing is evaluated otherwise.
    """

    engine: Engine
    started: Started
    baselines: jax.Array
    usable: jax.Array

    def parts(
        self,
        example: Example,
        attribution: jax.Array | None,
        maps: Mapping[str, jax.Array] | None = None,
        **scores: jax.Array,
    ) -> Parts:
        """What a method found, with the scores that all of them have."""
        area = jnp.sum(example.target.segment, dtype=jnp.float32)
        own = {"outcome": self.started.base[0], "area_target": area}
        return Parts(
            attribution=attribution,
            scores=own | scores,
            maps=maps or {},
            finite=jnp.all(jnp.isfinite(jnp.stack([*scores.values(), self.started.base[0]]))),
            status=jnp.where(self.started.fits[0], Status.OK, Status.REGION_TOO_LARGE),
            logits=self.started.logits,
        )


def engine_of(
    explainer: Perturbation,
    mesh: Mesh,
    problem: Problem,
    shape: tuple[int, ...],
    *,
    num_copies: int,
    block_size: int | None = None,
) -> Engine:
    """What evaluates copies of an image, in windows where they pay.

    Args:
      explainer: its settings.
      mesh: the devices that share the work.
      problem: the model.
      shape: (*S, C) of the image.
      num_copies: evaluated for each block.
      block_size: side of the blocks in which copies differ from the image; None: as the method
        says by `hidden_side`.
    """
    work = explainer.work(shape, num_copies, block_size)
    # Windows save something where what differs or what is looked at is less than all.
    less = work.block_size < max(shape[:-1]) or work.box != shape[:-1]
    build = WindowedEngine if less else WholeEngine
    return build.build(
        problem.segmenter, problem.variables, get_outcome(explainer.outcome), work, mesh
    )


def look(
    explainer: Perturbation,
    mesh: Mesh,
    problem: Problem,
    example: Example,
    *,
    num_copies: int,
) -> View:
    """Make an engine for one image, see `engine_of`, and look at the image."""
    engine = engine_of(explainer, mesh, problem, example.image.shape, num_copies=num_copies)
    targets = one_target(example)
    started = engine.start(problem.variables, example.image, targets)
    sound = all_finite(example.image, started.logits)
    usable = (first_status(example.target, sound) == Status.OK) & started.fits[0]
    baselines = baseline_images(explainer.baseline, example.image, example.others, example.size)
    return View(engine=engine, started=started, baselines=baselines, usable=usable)


def one_target(example: Example) -> SegmentTarget:
    """The target of an image as the only one of an engine, leaves [1, ...]."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], example.target)


class Evaluator:
    """Evaluates masks on one image.

    A masked image is an intervention on a block as large as the image: all of it may change, and of
    every layer only what the region sees is computed.

    Attributes:
      view: the image.
      seen: bool [*S], the pixels that can change the outcome at all.
    """

    def __init__(
        self,
        explainer: Perturbation,
        mesh: Mesh,
        problem: Problem,
        example: Example,
        num_masks: int,
    ) -> None:
        """For up to `num_masks` masks."""
        self._image, self._capacity = example.image, num_masks
        self.view = look(
            explainer,
            mesh,
            problem,
            example,
            num_copies=num_masks * explainer.num_baselines,
        )
        seen = jnp.broadcast_to(example.own, (*example.image.shape[:-1], 1))[..., 0]
        self.seen = seen & self.view.engine.seen(self.view.started)

    def outcomes(
        self,
        mask_of: Callable[[jax.Array], jax.Array],
        count: jax.Array | int | None = None,
    ) -> jax.Array:
        """Outcomes float32 [num_masks] of masked images, 0 for those that are not evaluated.

        Args:
          mask_of: number of a mask, int32 [] -> mask [*S, C] or of sides 1 in [0, 1]; 1 shows the
            image, 0 the baseline.
          count: the masks 0, 1, .. count - 1 are evaluated; None: all.
        """
        engine, started, baselines = self.view.engine, self.view.started, self.view.baselines
        each = len(baselines)

        def evaluate(jobs: jax.Array) -> jax.Array:
            masks = jax.vmap(mask_of)(jobs // each).astype(jnp.float32)
            # Not baseline + mask * difference, which would not give back the image where it is 1.
            hidden = baselines[0] if each == 1 else baselines[jobs % each]
            copies = masks * self._image + (1 - masks) * hidden
            # Padding is the same in both, and must not even be rounded.
            copies = jnp.where(self._image == hidden, self._image, copies)
            logits = engine.logits_of(started, copies, jnp.int32(0))
            return jax.vmap(engine.outcomes, (0, None))(logits, started.targets)[:, 0]

        count = self._capacity if count is None else count
        found = map_jobs(
            evaluate,
            jnp.where(self.view.usable, count, 0) * each,
            capacity=self._capacity * each,
            batch_size=engine.per_call,
            num_devices=engine.num_devices,
        )
        return jnp.mean(found.reshape(self._capacity, each), axis=1)
