"""MiSuRe: the smallest region from which a model still segments the same (arXiv 2406.12173)."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.explainers.misure.base import MisureBase
from jaxseg_xai.explainers.misure.stages import Found, Job, dice_of, soft_misses

#: Levels begin between these, the lower the later a dilation reached the pixel, and above the third
#: on Y: what is farthest goes first.
_RIM, _NEXT, _INSIDE = 0.52, 0.7, 0.8
#: Adam forgets quickly: the region that the gradient is about changes with every step.
_DECAY_FIRST, _DECAY_SECOND, _EPS = 0.5, 0.9, 1e-8
#: Factor of the step after a step that was good, up to the learning rate.
_RECOVERY = 1.05
#: The multiplier stays within these.
_LEAST, _MOST = 1e-3, 1e5


class MisureState(NamedTuple):
    """State of stage 2.

    Attributes:
      level: float32 [H, W] in [0, 1]; the region is where it is above 0.5.
      best: level of the smallest region so far that is sufficient.
      best_area: float32 [], its pixels.
      first: float32 [H, W], first moment of the gradient.
      second: float32 [H, W], second moment.
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

    Stage 1: M_0 = Y; while D([argmax f(x M_k) = c], Y) < tau: M_{k+1} = dilate(M_k).
    Stage 2 states the method's goal as what it is, a constraint:

        minimise |M|  over regions M inside M_SR  subject to  D([argmax f(x M) = c], Y) >= tau

    A level in [0, 1] per pixel makes the region M = [level > 0.5]. The model sees that region,
    never a dimmed image; the gradient of multiplier (1 - D_c) + |M| / |M_SR| with respect to M (D_c
    the soft Dice) moves the levels, by Adam. The multiplier rises while the region is insufficient
    and falls while it is not. After `max_misses` insufficient regions in a row the search goes back
    to the smallest sufficient one and halves its steps. It ends when the area has not fallen by a
    percent for `patience` steps, or after `num_iterations`.

    The attribution is the level of the smallest sufficient region that was seen, so that the region
    is where it is above 0.5; `dice_minimal` and `area_minimal` are measured on that region once
    more. Unless the status is NOT_REACHED it was sufficient in the search; a pixel on the threshold
    may fall otherwise in the second look. That no smaller one exists is not proven. Numbers are
    traced: changing one does not recompile. With a region of interest, Y and every Dice are
    restricted to it. `MisurePaper` has the published loss.

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
    learning_rate: float = 0.05
    multiplier_rate: float = 0.2
    max_misses: int = 3
    patience: int = 20
    num_iterations: int = dataclasses.field(default=100, metadata={"static": True})

    def validate(self) -> None:
        """Raise `ConfigError` naming the first value out of its range."""
        super().validate()
        if not self.multiplier_rate > 0:
            raise ConfigError(
                f"{self.name}.multiplier_rate is {self.multiplier_rate}; it must be positive"
            )
        for name in ("max_misses", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{self.name}.{name} is {getattr(self, name)}; it must be at least 1"
                )
        if self.learning_rate * self.patience < _RIM - 0.5:
            raise ConfigError(
                f"{self.name}.learning_rate is {self.learning_rate}: in {self.patience} steps "
                "(patience) no level could cross 0.5; make one of them larger"
            )

    def start(self, job: Job) -> MisureState:
        """All of M_SR, its pixels at levels of their own so that they do not all go at once."""
        spread = _spread(job.segment.shape)
        near = 1 - (job.layers - spread) / jnp.maximum(job.num_dilations, 1)
        ring = _RIM + (_NEXT - _RIM) * near
        inside = _INSIDE + (1 - _INSIDE) * spread
        level = jnp.where(job.segment, inside, jnp.where(job.sufficient, ring, 0.0))
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

    def step(self, predict_masked: Any, job: Job, state: MisureState) -> MisureState:
        """Look at the region, and move the levels or go back."""
        size = jnp.maximum(jnp.sum(job.sufficient), 1)

        def objective(level: jax.Array) -> tuple[jax.Array, jax.Array]:
            hard = _region(level).astype(jnp.float32)
            region = level + jax.lax.stop_gradient(hard - level)
            logits = predict_masked(region)
            miss, _ = soft_misses(logits, job)
            loss = state.multiplier * miss + jnp.sum(region) / size
            return loss, dice_of(logits, job.target, job.segment)

        (loss, dice), gradient = jax.value_and_grad(objective, has_aux=True)(state.level)
        gradient *= job.sufficient
        area = jnp.sum(_region(state.level), dtype=jnp.float32)
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
            area=state.area.at[state.steps].set(area / jnp.sum(job.segment)),
            finite=state.finite & jnp.isfinite(loss) & jnp.all(jnp.isfinite(gradient)),
        )

    def is_done(self, state: MisureState) -> jax.Array:
        """No progress for long, or out of steps."""
        return (state.stale >= self.patience) | (state.steps == self.num_iterations)

    def found(self, job: Job, state: MisureState) -> Found:
        """The smallest sufficient region."""
        return Found(
            attribution=state.best,
            mask=_region(state.best).astype(jnp.float32),
            finite=state.finite,
            scores={
                "iterations": state.steps.astype(jnp.float32),
                "multiplier": state.multiplier,
            },
            traces={"dice_search": state.dice, "area_search": state.area},
        )

    def measure(
        self, predict_masked: Any, job: Job, mask: jax.Array, logits: jax.Array
    ) -> dict[str, jax.Array]:
        """How sure the model is of what it segments from the region."""
        del predict_masked, mask
        miss_c, miss_0 = soft_misses(logits, job)
        return {"loss_foreground": miss_c, "loss_background": miss_0}


def _region(level: jax.Array) -> jax.Array:
    return level > 0.5


def _spread(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1) that differ as much as possible between neighbours (the R2 sequence)."""
    y, x = np.indices(shape)
    return ((0.7548776662466927 * y + 0.5698402909980532 * x) % 1).astype(np.float32)
