"""MiSuRe: the smallest region from which a model still segments the same (arXiv 2406.12173)."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import setting
from jaxseg_xai.explainers.base import Meta
from jaxseg_xai.explainers.misure.base import MisureBase, misure_meta
from jaxseg_xai.explainers.misure.stages import Found, Job, MaskedModel, dice_of, soft_misses

#: Levels of the search's start: between the first two beside Y, the lower the later a dilation
#: reached the pixel, so that what is farthest goes first; above the third on Y.
_RIM, _NEXT, _INSIDE = 0.52, 0.7, 0.8
#: Adam forgets quickly: the region that the gradient is about changes with every step.
_DECAY_FIRST, _DECAY_SECOND, _EPS = 0.5, 0.9, 1e-8
#: Factor of the step after a step that was good, up to the learning rate.
_RECOVERY = 1.05
#: The multiplier stays within these.
_LEAST, _MOST = 1e-3, 1e5
#: Of the R_d sequence, by the number of axes d: powers -1, -2, ..., -d of the root of
#: x^(d + 1) = x + 1 (for d = 2 the plastic number).
_RATIOS = {
    2: (0.7548776662466927, 0.5698402909980532),
    3: (0.8191725133961645, 0.6710436067037893, 0.5497004779019703),
}


class MisureState(NamedTuple):
    """State of stage 2.

    Attributes:
      level: float32 [*S] in [0, 1]; the region is where it is above 0.5.
      best: level of the smallest region so far that is sufficient.
      best_area: float32 [], its pixels.
      first: float32 [*S], first moment of the gradient.
      second: float32 [*S], second moment.
      rate: float32 [], step size.
      multiplier: float32 [], weight of the constraint.
      misses: int32 [], insufficient regions in a row.
      stale: int32 [], steps since the area fell by a percent.
      mark: float32 [], area that `stale` counts from.
      steps: int32 [], taken.
      dice: float32 [num_iterations], hard Dice of the region of every step, NaN from `steps` on.
      area: float32 [num_iterations], its area over that of Y.
      finite: bool [].
    """

    level: jax.Array
    best: jax.Array
    best_area: jax.Array
    first: jax.Array
    second: jax.Array
    rate: jax.Array
    multiplier: jax.Array
    misses: jax.Array
    stale: jax.Array
    mark: jax.Array
    steps: jax.Array
    dice: jax.Array
    area: jax.Array
    finite: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Misure(MisureBase):
    """The smallest region with a hard Dice of at least tau, found by gradient descent.

    Stage 1: M_0 = Y; while D([f(x M_k) is c], Y) < tau: M_{k+1} = dilate(M_k).
    Stage 2 solves the method's goal as a problem with a constraint:

        minimise |M|  over regions M inside M_SR  subject to  D([f(x M) is c], Y) >= tau

    A level in [0, 1] per pixel makes the region M = [level > 0.5]. The model sees that region,
    never a dimmed image; the gradient of multiplier (1 - D_c) + |M| / |M_SR| with respect to M (D_c
    the soft Dice) moves the levels, by Adam. The multiplier rises while the region is insufficient
    and falls while it is not. After `max_misses` insufficient regions in a row the search goes back
    to the smallest sufficient one and halves its steps. It ends when the area has not fallen by a
    percent for `patience` steps, or after `num_iterations`.

    The attribution is the level of the smallest sufficient region that was seen, so that the region
    is where it is above 0.5; `dice_minimal` and `area_minimal` are measured on that region once
    more. Unless the status is NOT_REACHED the region was sufficient in the search; rounding may
    decide a pixel on the threshold otherwise in the last measurement. That no smaller one exists is
    not proven. Numbers are traced: changing one does not recompile. Y is the predicted segment of
    class c; with a region, Y and every Dice are restricted to it. `MisurePaper` has the published
    loss.

    Attributes:
      learning_rate: step of the levels, at most.
      multiplier_rate: of the multiplier, in powers of e per step.
      max_misses: insufficient regions in a row before it goes back.
      patience: steps without progress before it ends.
      num_iterations: steps of stage 2, at most.

    References:
      MiSuRe, arXiv 2406.12173, section 3 (the two stages).
      Bengio et al., arXiv 1308.3432 (the straight-through gradient).
    """

    name: ClassVar[str] = "misure"
    meta: ClassVar[Meta] = misure_meta(
        title="Minimally sufficient region\nbright: kept firmly",
        unit="level; the region is above 0.5",
        note="Bright: kept firmly. The model is shown the pixels above 0.5, unchanged.",
        scores={"multiplier": "weight of the constraint at the end"},
    )
    learning_rate: float = setting(0.05, above=0)
    multiplier_rate: float = setting(0.2, above=0)
    max_misses: int = setting(3, at_least=1)
    patience: int = setting(20, at_least=1)

    def check_together(self) -> None:
        """Raise `ConfigError` where the search would end before anything could change."""
        if self.learning_rate * self.patience < _RIM - 0.5:
            raise ConfigError(
                f"{self.name}.learning_rate is {self.learning_rate}: in {self.patience} steps "
                "(patience) no level could cross 0.5; make one of them larger"
            )

    def start(self, job: Job, number: jax.Array) -> MisureState:
        """All of M_SR, its pixels at levels of their own so that they do not all go at once.

        Which of two neighbours goes first is arbitrary, and other in each of several starts.
        """
        spread = (_spread(job.layers.shape) + number / self.num_searches) % 1
        near = 1 - (job.layers - spread) / jnp.maximum(job.num_dilations, 1)
        ring = _RIM + (_NEXT - _RIM) * near
        inside = _INSIDE + (1 - _INSIDE) * spread
        level = jnp.where(job.target.segment, inside, jnp.where(job.sufficient, ring, 0.0))
        area = jnp.sum(job.sufficient, dtype=jnp.float32)
        zeros, nothing = jnp.zeros_like(level), jnp.full(self.num_iterations, jnp.nan)
        return MisureState(
            level=level,
            best=level,
            best_area=area,
            first=zeros,
            second=zeros,
            rate=jnp.float32(self.learning_rate),
            multiplier=jnp.float32(1.0),
            misses=jnp.int32(0),
            stale=jnp.int32(0),
            mark=area,
            steps=jnp.int32(0),
            dice=nothing,
            area=nothing,
            finite=jnp.bool(True),
        )

    def step(self, model: MaskedModel, job: Job, state: MisureState) -> MisureState:
        """Show the model the region; then move the levels, or go back to the best ones."""
        size = jnp.maximum(jnp.sum(job.sufficient), 1)

        def objective(level: jax.Array) -> tuple[jax.Array, jax.Array]:
            hard = region_of(level).astype(jnp.float32)
            region = level + jax.lax.stop_gradient(hard - level)
            logits = model.logits(region)
            miss, _ = soft_misses(model.output, logits, job.target)
            loss = state.multiplier * miss + jnp.sum(region) / size
            return loss, dice_of(model.output, logits, job.target)

        (loss, dice), gradient = jax.value_and_grad(objective, has_aux=True)(state.level)
        gradient *= job.sufficient
        area = jnp.sum(region_of(state.level), dtype=jnp.float32)
        enough = dice >= self.tau
        better = enough & (area <= state.best_area)
        best = jnp.where(better, state.level, state.best)
        best_area = jnp.where(better, area, state.best_area)
        progress = best_area < 0.99 * state.mark

        misses = jnp.where(enough, 0, state.misses + 1)
        back = misses > self.max_misses
        recovered = jnp.minimum(_RECOVERY * state.rate, self.learning_rate)
        rate = jnp.where(enough, recovered, state.rate)
        multiplier = state.multiplier * jnp.exp(jnp.where(enough, -1, 1) * self.multiplier_rate)

        steps = state.steps + 1
        first = _DECAY_FIRST * jnp.where(back, 0.0, state.first) + (1 - _DECAY_FIRST) * gradient
        second = _DECAY_SECOND * state.second + (1 - _DECAY_SECOND) * gradient**2
        direction = first / (1 - _DECAY_FIRST**steps)
        direction /= jnp.sqrt(second / (1 - _DECAY_SECOND**steps)) + _EPS
        moved = jnp.clip(state.level - rate * direction, 0.0, 1.0)
        return MisureState(
            level=jnp.where(back, best, moved),
            best=best,
            best_area=best_area,
            first=first,
            second=second,
            rate=jnp.where(back, 0.5 * rate, rate),
            multiplier=jnp.clip(multiplier, _LEAST, _MOST),
            misses=jnp.where(back, 0, misses),
            stale=jnp.where(progress, 0, state.stale + 1),
            mark=jnp.where(progress, best_area, state.mark),
            steps=steps,
            dice=state.dice.at[state.steps].set(dice),
            area=state.area.at[state.steps].set(area / jnp.sum(job.target.segment)),
            finite=state.finite & jnp.isfinite(loss) & jnp.all(jnp.isfinite(gradient)),
        )

    def is_done(self, state: MisureState) -> jax.Array:
        """No progress for long, or out of steps."""
        return (state.stale >= self.patience) | (state.steps == self.num_iterations)

    def found(self, job: Job, state: MisureState) -> Found:
        """The smallest sufficient region."""
        return Found(
            attribution=state.best,
            mask=region_of(state.best).astype(jnp.float32),
            finite=state.finite,
            scores={
                "iterations": state.steps.astype(jnp.float32),
                "multiplier": state.multiplier,
            },
            traces={"dice_search": state.dice, "area_search": state.area},
            maps={},
        )

    def measure(
        self, model: MaskedModel, job: Job, mask: jax.Array, logits: jax.Array
    ) -> dict[str, jax.Array]:
        """How sure the model is of what it segments from the region."""
        del mask
        miss_c, miss_0 = soft_misses(model.output, logits, job.target)
        return {"loss_foreground": miss_c, "loss_background": miss_0}


def region_of(level: jax.Array) -> jax.Array:
    """The region of a level, bool."""
    return level > 0.5


def _spread(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1), float32 [*S], that differ as much as possible between neighbours.

    References:
      M. Roberts, The unreasonable effectiveness of quasirandom sequences, 2018 (the R_d sequence).
    """
    ratios = _RATIOS[len(shape)]
    total = sum(ratio * index for ratio, index in zip(ratios, np.indices(shape), strict=True))
    return (np.asarray(total) % 1).astype(np.float32)
